"""The published building blocks: ``resnet`` (backbone levels), ``aim`` and ``sim`` (MINet), ``rsu`` (U²-Net)."""
