"""Passes over the steps of an epoch that an earlier run has done."""


class StepsDone:
    """Lets `fit` go through the first steps of an epoch without training.

    `fit` can begin at any epoch, but not within one. So it begins the epoch
    anew and takes the batches that were used already, while the function that
    would train on them does nothing. What follows is then the very batch that
    an uninterrupted run would have seen, from whatever data.

    Args:
        model: `keras.Model` in `fit`, at the beginning of an epoch.
        num_steps: Integer, the steps that are done.
        logs: Dictionary, what a step that is passed over logs.

    Raises:
        ValueError: If it is not a multiple of the model's
            `steps_per_execution`.
    """

    def __init__(self, model, num_steps, logs):
        if num_steps % model.steps_per_execution:
            raise ValueError(
                "A run that stopped within an epoch continues there only with "
                "a `steps_per_execution` that divides the steps that were "
                f"done. Received: steps_per_execution="
                f"{model.steps_per_execution}, after {num_steps} steps."
            )
        self._calls = num_steps // model.steps_per_execution
        self._logs = logs
        self._model = model
        self._train = None
        if self._calls:
            self._train = model.train_function
            model.train_function = self._pass_over

    def end(self):
        """Gives the model its own function back, if it has not."""
        if self._train is not None:
            self._model.train_function = self._train
            self._train = None

    def _pass_over(self, *arguments):
        # On JAX there is a state before the data. These are an iterator, or
        # on PyTorch the batches that were taken from it.
        *state, data = arguments
        try:
            if hasattr(data, "__next__"):
                for _ in range(self._model.steps_per_execution):
                    next(data)
        except BaseException:
            self.end()
            raise
        self._calls -= 1
        if not self._calls:
            self.end()
        return (self._logs, *state) if state else self._logs


def passes_over_steps(model):
    """Whether the next step of a model in `fit` is passed over."""
    train = getattr(model, "train_function", None)
    return isinstance(getattr(train, "__self__", None), StepsDone)
