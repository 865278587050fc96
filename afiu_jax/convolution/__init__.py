"""How convolutions are computed: networks say which, and this package in which way their platform is quick at it.

Read in this order: ``platform`` sets a network's convolutions to ``cpu`` or ``gpu``, ``mixed_precision`` those in a
narrower type than their weights. On a CPU they are ``canonical``'s, with ``kernel_gradient``, or ``winograd``'s, or
``grouped``'s, or matrix products; ``filtered`` has kernels ready for many maps. ``taps`` and ``remat`` serve them all.
"""
