"""How convolutions are computed. Networks have plain ``nnx.Conv``; what stands here is set from outside.

In reading order: ``choice`` gives a network's convolutions the function that suits a platform, ``cpu`` or ``gpu``, and
``mixed_precision`` those in a narrower type than their weights. ``cpu`` chooses by shape among matrix products,
``winograd``, ``grouped`` and ``canonical``, whose kernels' gradients are ``kernel_gradient``'s; ``filtered`` prepares
wide kernels once for many maps. ``taps`` is what several of them need, and ``remat`` says which results are kept.
"""
