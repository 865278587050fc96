"""What a study is: the schema of ``configs/studies/*.py`` and its defaults."""

import difflib
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from afiu_jax.errors import UserError
from afiu_jax.training.schema import base_config, dataset


def base_study() -> ConfigDict:
    """The schema; every key that the configuration of a study can have is here, in ``network`` or in ``benchmark``.

    ``config.get_ref("data") + "/cuhk"`` makes a path that follows ``--config.data=…``.
    """
    return ConfigDict(
        {
            "title": "Transfer from salient objects to defocus blur",
            "data": "data",  # folder in which the data sets lie, for paths that refer to it
            "sod": base_config(),  # the SOD pre-training, as in configs/sod.py
            "dbd": base_config(),  # the DBD training, as in configs/dbd.py
            "starts": ("scratch", "sod"),  # keys of strategies.STRATEGIES, or of strategies below
            "strategies": {},  # more of them, see strategies.strategy
            "seeds": (0,),
            "networks": {},  # by name, see network
            "tests": {},  # by name, see benchmark
            "rows": 8,  # photos in each visual comparison
        }
    )


def network(**fields) -> dict:
    """A network of the grid.

    Args:
        **fields: what differs from these defaults.

    Returns:
        ``sod`` and ``dbd``: what its own recipe changes in the configurations, as nested keys. ``starts``, ``seeds``:
        its own, if not the study's. ``weights``: a run, a file or a name for strategies that start there.
        ``backbone_weights``: ImageNet's. Strategies whose weights are not given are left out.
    """
    return {
        "sod": {},
        "dbd": {},
        "starts": placeholder(tuple),
        "seeds": placeholder(tuple),
        "weights": placeholder(str),
        "backbone_weights": placeholder(str),
        **fields,
    }


def recipe(config: ConfigDict, base: ConfigDict) -> dict:
    """What a configuration changes in another, as nested keys, for ``network``: all else is the study's to change.

    Args:
        config: a network's.
        base: the study's, ``sod`` or ``dbd``.
    """
    return _changes(config.to_dict(), base.to_dict())


def _changes(new: dict, old: dict) -> dict:
    changed = {}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            value, before = _changes(value, before), {}
        if value != before:
            changed[key] = value
    return changed


def benchmark(name: str, *, paper: str | None = None, **fields) -> dict:
    """A data set to score on.

    Args:
        name: as of ``training.schema.dataset``.
        paper: the paper's name of this very data set, ``CUHK`` or ``DUT``, if it is one of Table 2.
        **fields: as of ``training.schema.dataset``.
    """
    return {"paper": paper if paper else placeholder(str), **dataset(name, **fields)}


def read_study(config: ConfigDict) -> dict:
    """A study's configuration as plain data.

    Raises:
        UserError: unknown keys, no networks, no test sets.
    """
    study = config.to_dict()
    _require_known("", study, list(base_study()))
    for what, schema in (("networks", list(network())), ("tests", list(benchmark("folder")))):
        if not study[what]:
            raise UserError(f"the study has no {what}: see configs/studies/table2.py")
        for name, fields in study[what].items():
            _require_known(f"{what}.{name}.", fields, schema)
    return study


def _require_known(prefix: str, given: Iterable[str], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; there are {', '.join(known)}"
            raise UserError(f"unknown configuration key {prefix + key!r}{hint}")
