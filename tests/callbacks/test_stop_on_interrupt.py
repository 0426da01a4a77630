import signal
import threading

import keras
import pytest

from simclr_keras.callbacks import StopOnInterrupt, StopOnNaN
from tests.callbacks.small import X, Y, fit, make_model


class SignalAt(keras.callbacks.Callback):
    """Sends this process a signal from within `fit`, and counts the steps."""

    def __init__(self, method, number=signal.SIGINT, times=1):
        super().__init__()
        self.steps = self.epochs = 0
        setattr(self, method, self.send)
        self.number, self.times = number, times

    def send(self, *args, **kwargs):
        for _ in range(self.times):
            self.times -= 1
            signal.raise_signal(self.number)

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


@pytest.fixture(autouse=True)
def _callbacks_give_signals_back(_signals_act_by_default):
    before = _signals_act_by_default
    yield
    assert [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    ] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_and_the_epoch_is_not(number, capsys):
    sender = SignalAt("on_train_batch_begin", number)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [sender, StopOnInterrupt()])
    assert (sender.steps, sender.epochs) == (1, 0)
    assert "Stopping after this step" in capsys.readouterr().out


def test_the_second_signal_takes_effect_at_once():
    sender = SignalAt("on_train_batch_begin", times=2)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [sender, StopOnInterrupt()])
    assert sender.steps == 0


def test_what_is_done_at_the_end_of_an_epoch_is_finished():
    sender = SignalAt("on_epoch_end")
    sender.on_epoch_begin = lambda epoch, logs: setattr(sender, "epochs", epoch)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [sender, StopOnInterrupt()], epochs=3)
    assert (sender.steps, sender.epochs) == (4, 1)


def test_a_validation_is_not_waited_for():
    sender = SignalAt("on_test_batch_begin")
    tested = []
    counter = keras.callbacks.LambdaCallback()
    counter.on_test_batch_end = lambda batch, logs: tested.append(batch)
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            [sender, counter, StopOnInterrupt()],
            validation_data=(X, Y),
            validation_batch_size=2,
        )
    assert tested == [0]


def test_a_signal_after_the_last_step_counts_too():
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), [SignalAt("on_epoch_end"), StopOnInterrupt()])


def test_without_a_signal_nothing_happens():
    callback = StopOnInterrupt()
    for _ in range(2):
        assert len(fit(make_model(), [callback], epochs=2).epoch) == 2


@pytest.mark.parametrize("runs", [1, 2])
def test_after_an_error_in_fit_signals_act_as_before(runs):
    model = make_model(keras.optimizers.SGD(float("inf")))
    before = signal.getsignal(signal.SIGINT)
    for _ in range(runs):
        with pytest.raises(FloatingPointError):
            fit(model, [StopOnInterrupt(), StopOnNaN()])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_signals_are_chosen():
    before = signal.getsignal(signal.SIGTERM)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(
            signal.getsignal(signal.SIGTERM)
        )
    )
    fit(make_model(), [StopOnInterrupt([signal.SIGINT]), look])
    assert seen == [before]


def test_another_thread_trains_without_it():
    losses = []

    def train():
        history = fit(make_model(), [StopOnInterrupt()])
        losses.extend(history.history["loss"])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert len(losses) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_handler_that_somebody_brings_back(times):
    """As a context does that sets signals back to what they were inside it."""
    model = make_model(keras.optimizers.SGD(float("inf")))
    with pytest.raises(FloatingPointError):
        fit(model, [StopOnInterrupt([signal.SIGINT]), StopOnNaN()])
    stale = signal.getsignal(signal.SIGINT)
    fit(make_model(), [StopOnInterrupt([signal.SIGINT])])
    for _ in range(times):
        signal.signal(signal.SIGINT, stale)
        fit(make_model(), [StopOnInterrupt([signal.SIGINT])])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, stale)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
