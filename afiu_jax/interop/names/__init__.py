"""The published names of our parameters, one file per network, so that weights travel both ways.

Every file has ``module_name(model, path) -> str``: the published (PyTorch) name of the sub-module that stands at
``path`` in our network, dotted, such as ``stage1.encode.0.conv`` -> ``stage1.rebnconv1.conv_s1``. What a module's
arrays are called and how they lie in memory is the same for all networks: ``afiu_jax/interop/layout.py``.
"""
