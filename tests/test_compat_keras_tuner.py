"""KerasTuner's private names: those that are used are there, and used in `tuners/compat.py` only."""

import ast
import importlib
import inspect
import pathlib

import keras
import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial

from keras_drmad.tuners import compat

TUNERS = pathlib.Path(__file__).parent.parent / "tuners"
ORACLE = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", max_trials=1)

# Of each name the module and class it is in, and its arguments.
FUNCTIONS = {
    "engine.oracle:Oracle._set_project_dir": "self directory project_name",
    "engine.oracle:Oracle._save_trial": "self trial",
    "engine.oracle:Oracle.save": "self",
    "engine.oracle:Oracle.reload": "self",
    "engine.oracle:Display.__init__": "self oracle verbose",
    "engine.oracle:Display.on_trial_begin": "self trial",
    "engine.oracle:Display.on_trial_end": "self trial",
    "engine.tuner:Tuner._build_hypermodel": "self hp",
    "engine.tuner:Tuner._try_build": "self hp",
    "engine.tuner:Tuner._configure_tensorboard_dir": "self callbacks trial execution",
    "engine.base_tuner:BaseTuner._get_tuner_fname": "self",
    "engine.base_tuner:BaseTuner.save": "self",
    "distribute.oracle_client:OracleClient.__init__": "self oracle",
    "distribute.oracle_chief:OracleServicer.__init__": "self oracle",
}


def lost(name: str, what: str) -> str:
    return (
        f"KerasTuner {keras_tuner.__version__} {what} {name}: see `tuners/compat.py` for what it was "
        "used for, and find another way there."
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_as_they_were(name: str) -> None:
    module, _, path = name.partition(":")
    found = importlib.import_module(f"keras_tuner.src.{module}")
    for part in path.split("."):
        found = getattr(found, part, None)
        assert found is not None, lost(name, "has no")
    parameters = list(inspect.signature(found).parameters)
    assert parameters == FUNCTIONS[name].split(), lost(
        name, f"has other arguments ({parameters}) of"
    )


@pytest.mark.parametrize(
    "name, kind",
    [
        ("_project_dir", str),
        ("_retry_queue", list),
        ("_seed_state", int),
        ("_display.trial_start", dict),
        ("_display.trial_number", dict),
        ("_display.verbose", int),
        ("ongoing_trials", dict),
        ("trials", dict),
        ("start_order", list),
        ("end_order", list),
        ("tuner_ids", set),
    ],
)
def test_attributes_of_an_oracle_are_as_they_were(
    name: str, kind: type, tmp_path: pathlib.Path
) -> None:
    compat.set_project_dir(ORACLE, str(tmp_path), "project")
    found: object = ORACLE
    for part in name.split("."):
        found = getattr(found, part, None)
    assert isinstance(found, kind), lost(f"Oracle.{name}", "has no")


def test_a_client_calls_through_its_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    import grpc
    from keras_tuner.src.distribute import oracle_client

    for name, value in (("IP", "127.0.0.1"), ("PORT", "1")):
        monkeypatch.setenv(f"KERASTUNER_ORACLE_{name}", value)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    client = oracle_client.OracleClient(ORACLE)
    calls = {"GetSpace", "UpdateSpace", "CreateTrial", "UpdateTrial", "EndTrial", "GetTrial"}
    assert calls <= set(vars(client.stub)), lost("OracleClient.stub", "has other calls of")
    before = client.stub
    compat.call_through(client, grpc.insecure_channel("127.0.0.1:1"))
    assert type(client.stub) is type(before) and client.stub is not before


def test_a_lock_is_released_after_an_error() -> None:
    from keras_tuner.src.engine import oracle

    with pytest.raises(KeyError), compat.locked(ORACLE) as is_outermost:
        assert is_outermost and oracle.LOCKS[ORACLE].locked()
        with compat.locked(ORACLE) as is_outermost:
            assert not is_outermost
        raise KeyError
    assert not oracle.LOCKS[ORACLE].locked() and oracle.THREADS[ORACLE] is None


def test_a_seed_of_0_is_set() -> None:
    oracle = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", max_trials=1)
    compat.set_seed(oracle, 0)
    assert (oracle.seed, oracle.get_state()["seed_state"]) == (0, 0)


def test_another_display_is_told_of_trials(tmp_path: pathlib.Path) -> None:
    class Told(compat.Display):
        def on_trial_begin(self, trial: Trial) -> None:
            told.append(trial.trial_id)

    told: list[str] = []
    oracle = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", max_trials=1)
    compat.set_project_dir(oracle, str(tmp_path), "project")
    compat.set_display(oracle, Told(oracle))
    oracle.verbose = "auto"
    trial = oracle.create_trial("a")
    assert (told, oracle.verbose) == ([trial.trial_id], 1)


def test_an_oracle_may_write_nothing(tmp_path: pathlib.Path) -> None:
    oracle = keras_tuner.oracles.RandomSearchOracle(objective="val_loss", max_trials=1)
    compat.set_project_dir(oracle, str(tmp_path), "project")
    compat.write_nothing(oracle)
    oracle.hyperparameters.Choice("width", [1, 2])
    oracle.verbose = 0
    oracle.create_trial("a")
    assert not list(tmp_path.rglob("*.json"))


# -- and nowhere else -----------------------------------------------------------------------


def private() -> dict[str, str]:
    """`{name: Class.name}` of the private names of KerasTuner's oracles and tuners."""
    from keras_tuner.src.engine import base_tuner

    owners = {"Oracle": ORACLE, "Tuner": keras_tuner.Tuner, "BaseTuner": base_tuner.BaseTuner}
    return {
        name: f"{owner}.{name}"
        for owner, of in owners.items()
        for name in dir(of)
        if name.startswith("_") and not name.startswith("__")
    }


def test_private_names_are_used_in_one_file() -> None:
    names, found = private(), []
    assert names["_retry_queue"] == "Oracle._retry_queue"
    for path in set(TUNERS.rglob("*.py")) - {TUNERS / "compat.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            used = None
            if isinstance(node, ast.Attribute):
                used = names.get(node.attr)
            if isinstance(node, ast.FunctionDef):
                used = names.get(node.name)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "keras_tuner.src"
            ):
                used = node.module
            if used is not None and used not in compat.OVERRIDDEN:
                found.append(f"{path.relative_to(TUNERS)}:{getattr(node, 'lineno', 0)}: {used}")
    assert not found


def test_what_is_said_to_be_overridden_is() -> None:
    from keras_drmad.tuners.distributed.oracle import ResilientOracle

    assert all(name.partition(".")[2] in vars(ResilientOracle) for name in compat.OVERRIDDEN)


def test_callbacks_keep_their_model_under_a_private_name():
    assert compat.MODEL_OF_CALLBACK in vars(keras.callbacks.Callback())
