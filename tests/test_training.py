import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from docproduct.layers import precision
from docproduct.training import curves, loop, optimizer
from docproduct.training.gradients import num_rows, whole_gradients
from docproduct.training.run_checkpoint import Checkpoint
from docproduct.training.settings import TrainingSettings
from docproduct.training.step import step_function
from docproduct.training.task import Task


class Small(Task):
    """A task that repeats one batch, whose feature no system has."""

    num_rows, best_metric = 2, "x"
    batch = tf.data.Dataset.from_tensors({"numbers": tf.constant([1, 2], tf.int64)})

    def __init__(self, model, loss=None, scores=(), lowest_is_best=False):
        self.modules, self.loss, self.scores = (model,), loss, list(scores)
        self.lowest_is_best, self.seen, self.saved = lowest_is_best, [], []

    def gradients(self, batch, gather):
        return whole_gradients(self.loss, self.modules, batch, gather)

    def batches(self, epoch, skip):
        return self.batch.repeat(self.num_rows // 2).skip(skip)

    def count_tokens(self, batch):
        return 1, 1

    def evaluate(self):
        self.seen.append(self.scores[len(self.seen)])
        return {"x": self.seen[-1]}

    def save(self):
        self.saved.append(len(self.seen) - 1)

    def report(self, history):
        del history  # no model card


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_damaged_checkpoint_is_named(share, tmp_path):
    path = tmp_path / "m" / loop.CHECKPOINT_FILE
    path.parent.mkdir()
    variable = keras.Variable(np.ones(100))
    checkpoint = Checkpoint(str(path), [variable])
    partial = path.with_name(f"{path.name}.123.partial")  # left by a killed process
    partial.touch()
    checkpoint.save({"losses": [1.0]})
    assert not partial.exists()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    variable.assign(np.zeros(100))
    with pytest.raises(ValueError, match=f"{path} cannot be restored.*--overwrite"):
        checkpoint.restore()
    assert not np.any(variable)
    path.write_bytes(whole)
    assert checkpoint.restore() == {"losses": [1.0]}
    assert np.all(variable == 1)


def test_schedule_by_hand():
    schedule = optimizer.WarmupDecay(1.0, warmup_steps=2, num_steps=6)
    # Up over steps 0 and 1, then down by a quarter a step: the last step still moves.
    rates = [float(schedule(tf.constant(step))) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
    assert float(optimizer.WarmupDecay(1.0, 0, 4)(tf.constant(0))) == 1.0
    # The half cosine at 0, 1/4, 1/2, 3/4 of the four steps behind the warm-up: 1, (1 + cos 45°) / 2, 1/2, ...
    cosine = optimizer.WarmupDecay(1.0, 2, 6, "cosine")
    rates = [float(cosine(tf.constant(step))) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447, 0.0], abs=1e-6)
    assert optimizer.WarmupDecay(**cosine.get_config()).schedule == "cosine"


def test_gradients_are_clipped_by_their_global_norm():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = self.add_weight(shape=(1,), initializer="zeros")
            self.second = self.add_weight(shape=(1,), initializer="zeros")

    model = Model()
    # Two rows of 30 a + 40 b each, mean gradient (30, 40) of norm 50; clipped to norm 5 it is (3, 4).
    loss = lambda batch, gather: 2 * (30 * model.first[0] + 40 * model.second[0])  # noqa: E731
    task = Small(model, loss)
    optimizer = keras.optimizers.SGD(1.0)
    step = step_function(task, optimizer, 5.0, tf.distribute.get_strategy())
    step(next(iter(task.batch)))
    assert [float(variable[0]) for variable in (model.first, model.second)] == pytest.approx([-3.0, -4.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"warmup_share": 2.0},
        {"clip_norm": 0.0},
        {"weight_decay": -1.0},
        {"patience": -1},
        {"max_steps": -1},
        {"patience": 1, "keep": "last"},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        TrainingSettings(**wrong)


def test_precision_settings_name_dtype_policies():
    assert precision.dtype_policy("float32") == "float32"
    assert precision.dtype_policy("bfloat16") == "mixed_bfloat16"
    with pytest.raises(ValueError, match="expected auto, float32, bfloat16"):
        precision.dtype_policy("float16")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0)], "mixed_bfloat16"), ([(9, 0), (7, 5)], "float32"), ([None], "float32")],
)
def test_auto_precision_on_gpus(monkeypatch, capabilities, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: capabilities)
    details = [{"compute_capability": capability} if capability else {} for capability in capabilities]
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[capabilities.index(gpu)])
    assert precision.dtype_policy("auto") == expected


def test_weights_that_are_not_finite_are_never_saved():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 2))
    model.layers[0].bias.assign([np.nan])
    task = Small(model, scores=[0.0])
    with pytest.raises(ValueError, match="After step 7, 1 variables are not finite"):
        loop._evaluate(task, TrainingSettings(), new_run(), {"epoch": 1, "step": 7})
    assert task.seen == task.saved == []


def new_run():
    return loop._Run(loop._empty_history(), curves.Board(None), checkpoint=True)


@pytest.mark.parametrize(
    ("keep", "lowest_is_best", "expected"),
    [("best", False, [0, 1, 3]), ("best", True, [0, 2]), ("last", False, [0, 1, 2, 3])],
)
def test_the_best_or_the_last_epoch_is_saved(keep, lowest_is_best, expected):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 2))
    task, run = Small(model, scores=[0.5, 0.6, 0.4, 0.6], lowest_is_best=lowest_is_best), new_run()
    for epoch in range(4):
        loop._evaluate(task, TrainingSettings(keep=keep), run, {"epoch": epoch, "step": 1})
    assert task.saved == expected
    assert run.history["best"]["epoch"] == expected[-1]


def test_a_best_metric_that_is_not_evaluated_is_named_before_the_first_step(tmp_path):
    class Other(Small):
        best_metric, losses_made = "loss", 0  # "loss" is in each epoch's entry, but not of dev

        def gradients(self, batch, gather):
            self.losses_made += 1
            return super().gradients(batch, gather)

    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    task = Other(model, lambda batch, gather: tf.reduce_sum(model(tf.ones((1, 1)))), range(9))
    message = "Other.best_metric is 'loss'. Expected a metric that Other.evaluate returns: x. Set best_metric"
    with pytest.raises(ValueError, match=message):
        loop.fit(task, TrainingSettings(batch_size=2), str(tmp_path), tf.distribute.get_strategy())
    assert task.losses_made == 0


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (1, 2), (2, 5), (3, 6)])
def test_training_stops_after_patience_epochs_without_gain(tmp_path, patience, epochs):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    scores = [0.0, 0.5, 0.4, 0.6, 0.1, 0.2, 0.3]  # of the untrained model and of six epochs
    task = Small(model, lambda batch, gather: tf.reduce_sum(model(tf.ones((1, 1)))), scores)
    settings = TrainingSettings(epochs=6, batch_size=2, patience=patience)
    history = loop.fit(task, settings, str(tmp_path), tf.distribute.get_strategy())
    assert len(task.seen) == len(history["epochs"]) == epochs + 1
    assert history["best"]["x"] == max(task.seen)


@pytest.mark.parametrize(("num_batches", "steps"), [(2, 2), (4, 4)])
def test_batches_of_another_size_are_named(tmp_path, num_batches, steps):
    """Six rows, two a batch: an epoch has three steps."""

    class Other(Small):
        num_rows = 6

        def batches(self, epoch, skip):
            return self.batch.repeat(num_batches).skip(skip)

    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    task = Other(model, lambda batch, gather: tf.reduce_sum(model(tf.ones((1, 1)))), range(9))
    message = f"After epoch 1, {steps} steps are done; expected 3, with 6 rows an epoch and 2 a batch. Other.batches"
    with pytest.raises(ValueError, match=message):
        loop.fit(task, TrainingSettings(epochs=2, batch_size=2), str(tmp_path), tf.distribute.get_strategy())


def test_max_steps(tmp_path):
    """max_steps may end a training within an epoch, which is then scored; at the end of an epoch it changes nothing."""

    class Killed(Small):
        num_rows, num_steps, killed_at = 6, 0, None

        def count_tokens(self, batch):
            self.num_steps += 1
            if self.num_steps == self.killed_at:
                raise KeyboardInterrupt
            return 1, 1

    def run(name, killed_at=None, **settings):
        model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="ones")])
        model.build((None, 1))
        task = Killed(model, lambda batch, gather: tf.reduce_sum(model(tf.ones((1, 1))) ** 2), range(9))
        task.killed_at = killed_at
        settings = TrainingSettings(batch_size=2, learning_rate=0.1, warmup_share=0.5, **settings)
        (tmp_path / name).mkdir(exist_ok=True)
        return loop.fit(task, settings, str(tmp_path / name), tf.distribute.get_strategy())

    history = run("cut", epochs=4, max_steps=5)
    assert len(history["losses"]) == history["real_tokens"] == 5
    assert [entry["step"] for entry in history["epochs"]] == [0, 3, 5]
    with pytest.raises(KeyboardInterrupt):
        run("killed", killed_at=5, epochs=4, max_steps=5, checkpoint_steps=1)
    assert run("killed", epochs=4, max_steps=5, checkpoint_steps=1)["losses"] == history["losses"]
    plain = run("plain", epochs=2)
    assert (
        run("even", epochs=4, max_steps=6)["losses"] == plain["losses"] == run("few", epochs=2, max_steps=9)["losses"]
    )


def test_missing_tensorboard_is_reported(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="TensorBoard is missing. Install it: pip install tensorboard"):
        TrainingSettings(tensorboard_dir="curves")
    assert TrainingSettings().tensorboard_dir is None


@pytest.mark.parametrize("content", [b"{}", safetensors.numpy.save({"0": np.zeros(2)})])
def test_a_checkpoint_of_something_else_is_named(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    checkpoint = Checkpoint(str(tmp_path / "c"), [tf.Variable([0.0])])
    with pytest.raises(ValueError, match=r"/c cannot be restored .*--overwrite"):
        checkpoint.restore()


def test_num_rows_is_read_from_any_feature():
    batch = {"states": tf.zeros((3, 7)), "numbers": tf.zeros(3)}
    assert int(num_rows(batch)) == 3
    assert int(num_rows({name: value[:0] for name, value in batch.items()})) == 0
