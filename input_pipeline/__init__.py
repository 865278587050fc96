"""Everything between image files and training batches; imports nothing of ``afiu_jax``.

Reading order: ``records`` (what a source yields) → ``sources`` (which source a specification means) →
``folder`` · ``scenes`` · ``bokeh`` · ``builders`` → ``transforms`` → ``loader``.
"""
