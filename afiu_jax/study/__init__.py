"""The transfer study: networks x starts x seeds, each an ordinary run, and what comes out of comparing them.

Reading order: strategies (where runs start), config and grid (which runs there are), generated (data that all share),
worker and scheduler (running them), cells (what a run left), differences and results (numbers), tables, figures and
page (how they are shown), command (all of it).
"""
