"""What the commands of ``afiu`` do, where that is more than a call; ``afiu_jax/cli.py`` declares their flags."""
