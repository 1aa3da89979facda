"""Where the trials of a study are kept: a file in its folder, or a server's database that several machines share.

This is the only module that knows addresses of databases. A password in one is neither printed nor saved.
"""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import yaml

from pclhd.errors import ArgumentError, UserError, ran_out_of_memory
from pclhd.files import InUse, claiming, write_durably
from pclhd.parsing import Unparsable, parse_json, parse_yaml, read_text
from pclhd.study.definition import Objective
from pclhd.study.folder import StudyFolder

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

_IDENTITY = "pclhd"
_SERVERS = ("postgresql", "mysql", "mariadb")
_TRIES = 4
_LONGEST_REASON = 300
_PAUSE = 0.5
#: Seconds that a process waits for another one's lock on the file.
_PATIENCE = 60


def require_optuna() -> None:
    """Check that Optuna is installed, and have it speak through errors only.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("pclhd study needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def without_password(url: str) -> str:
    """An address of a database without password and options, as it may be shown and saved.

    Raises:
        UserError: It is no address.
    """
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError as NotAnAddress

    try:
        parsed = make_url(url)
    except (NotAnAddress, ValueError):
        raise UserError(
            "the study's storage is no address of a database; expected one like postgresql://NAME@HOST/DATABASE"
        ) from None
    if parsed.get_backend_name() not in _SERVERS:
        raise UserError(
            f"the study's storage is of the kind {parsed.get_backend_name()}; expected a server, like "
            "postgresql://NAME@HOST/DATABASE, or leave it out for a file in the study's folder"
        )
    shown = URL.create(
        parsed.drivername, username=parsed.username, host=parsed.host, port=parsed.port, database=parsed.database
    )
    return shown.render_as_string()


def _with_driver(url: str) -> str:
    """The address with the driver that is installed: SQLAlchemy's default has changed from version to version."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.drivername != "postgresql":
        return url
    driver = next((name for name in ("psycopg2", "psycopg") if find_spec(name) is not None), None)
    if driver is None:
        raise UserError("the study's storage needs a driver for PostgreSQL: pip install psycopg2-binary")
    return parsed.set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)


@contextmanager
def speaking_plainly(url: str | None) -> Iterator[None]:
    """Turn errors of the database in the block into one line without the password."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        _complain(url, error)


@contextmanager
def _reading(url: str | None) -> Iterator[None]:
    """The same for a block that only reads a database, in which any error says that the database is damaged."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        _complain(url, error)


def _complain(url: str | None, error: Exception) -> NoReturn:
    cause = error.__cause__ or error
    reason = " ".join(str(getattr(cause, "orig", None) or cause).split())
    if url is None:
        shown = reason[:_LONGEST_REASON]
        raise UserError(f"the study's database cannot be used ({shown}); make room, or restore the file") from error
    from sqlalchemy.engine import make_url

    for secret in filter(None, [make_url(url).password, url]):
        reason = reason.replace(str(secret), "***")
    reason = reason[:_LONGEST_REASON]
    # Not chained: a traceback would name the address again.
    raise UserError(f"{without_password(url)}: cannot be used ({reason}); check address, server and rights") from None


def open_storage(folder: StudyFolder, url: str | None) -> RDBStorage:
    """The database of a study: that of the address, or the file in the folder, which is made if there is none.

    Raises:
        UserError: It cannot be reached or made.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    if url is None:
        # Two processes that make the tables at once would stumble over each other.
        with _waiting_for(folder):
            address = f"sqlite:///{folder.database_file.absolute()}"
            return RDBStorage(address, engine_kwargs={"connect_args": {"timeout": _PATIENCE}})
    address = _with_driver(url)
    for _ in range(_TRIES):
        # Another process may be making the tables in this moment; what is wrong for good is wrong again.
        try:
            return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        except SQLAlchemyError:
            time.sleep(_PAUSE)
        except ImportError:
            kind = without_password(url).partition(":")[0]
            raise UserError(
                f"the study's storage needs a driver for {kind}; install one that SQLAlchemy knows"
            ) from None
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


@contextmanager
def _waiting_for(folder: StudyFolder) -> Iterator[None]:
    """Be the only one who makes or opens the file."""
    for _ in range(int(_PATIENCE / _PAUSE)):
        try:
            with claiming(folder.database_file):
                yield
                return
        except InUse:
            time.sleep(_PAUSE)
    raise UserError(f"{folder.database_file}: is in use by another process; try again")


def open_study(
    folder: StudyFolder, url: str | None, name: str, identity: Mapping[str, Any] | None
) -> tuple[Study, RDBStorage]:
    """A study that is there, or a new one if `identity` is given; and its database.

    Args:
        folder: Its folder.
        url: Address of the database; None for a file in the folder.
        name: The study's name in the database.
        identity: What all its trials have in common; None for whatever it is.

    Raises:
        UserError: There is none, it is another study, or the database cannot be used.
    """
    require_optuna()
    import optuna

    with _reading(url), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if url is None and identity is None and not folder.database_file.is_file():
            raise UserError(f"{folder.database_file}: is missing; expected a folder made by pclhd study run")
        storage = open_storage(folder, url)
        if identity is None:
            try:
                study = optuna.load_study(study_name=name, storage=storage)
            except KeyError:
                raise UserError(f"{folder}: its database holds no study named {name}") from None
            _require_sound(study)
            return study, storage
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        text = json.dumps(identity, sort_keys=True)
        if _IDENTITY not in study.user_attrs:
            study.set_user_attr(_IDENTITY, text)
        there = parse_json(study.user_attrs[_IDENTITY])
        if there != identity:
            raise UserError(
                f"{folder}: the study {name} there differs in {_difference(there, identity)}; name another folder"
                + ("" if url is None else " or another --name")
            )
        _require_sound(study)
        return study, storage


def _require_sound(study: Study) -> None:
    """Read all trials once, so that what is damaged is said before anything is trained.

    Raises:
        Exception: Of Optuna, for what it cannot read.
        ValueError: For what it can and never writes.
    """
    for place, trial in enumerate(study.get_trials(deepcopy=False)):
        if trial.number != place:
            raise ValueError(f"trial {place} has the number {trial.number}")
        values = [*(trial.values or ()), *trial.intermediate_values.values()]
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"a value of trial {place} is not finite")
        if trial.state.name == "COMPLETE" and len(trial.values or ()) != 1:
            raise ValueError(f"trial {place} is complete, but has no value")


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first key in which two identities differ."""
    for key in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(key), other.get(key)
        if mine != theirs:
            if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
                return f"{key}.{_difference(mine, theirs)}"
            return key
    return "nothing"


def identity_of(study: Study) -> dict[str, Any]:
    """What all trials of a study have in common.

    Raises:
        UserError: pclhd did not make it.
    """
    try:
        identity = parse_json(study.user_attrs[_IDENTITY])
        objective, space, seeds = identity["objective"], identity["space"], identity.get("seeds", [])
    except (KeyError, TypeError, AttributeError, Unparsable) as error:
        raise UserError(f"the study {study.study_name} was not made by pclhd") from error
    is_sound = isinstance(space, dict) and isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if objective not in get_args(Objective) or not is_sound:
        raise UserError(f"the study {study.study_name} was not made by pclhd, or its database is damaged")
    return dict(identity)


def write_record(folder: StudyFolder, url: str | None, name: str, identity: Mapping[str, Any]) -> None:
    """Save what is searched, and where the trials are, for people and for `read_record`."""
    where = folder.database_file.name if url is None else without_password(url)
    record = {"storage": where, "name": name, **identity}
    write_durably(folder.record_file, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def find_study(folder: StudyFolder, url: str | None) -> tuple[str | None, str] | None:
    """Address and name of the study that belongs to a folder; None if it is a new folder.

    Args:
        folder: The study's folder.
        url: The address as given; it holds the password, if one is needed, so it cannot be read from the folder.

    Raises:
        UserError: The address is none of a server, the folder's study is elsewhere, or its record is damaged.
    """
    given = folder.database_file.name if url is None else without_password(url)
    if not folder.record_file.exists():
        return None
    restore = "restore the file that pclhd study wrote"
    try:
        record = parse_yaml(read_text(folder.record_file, restore))
        where, name = str(record["storage"]), str(record["name"])
    except (Unparsable, KeyError, TypeError) as error:
        raise UserError(f"{folder.record_file}: is damaged ({error}); {restore}") from error
    if given != where:
        if where == folder.database_file.name:
            raise ArgumentError(
                "storage",
                f"the study in {folder} keeps its trials in a file there; leave out `storage` and PCLHD_STUDY_STORAGE",
            )
        raise ArgumentError("storage", f"the study in {folder} keeps its trials in {where}; name that, with a password")
    return url, name
