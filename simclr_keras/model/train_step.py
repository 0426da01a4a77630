"""The step of the backend that Keras runs on."""

import keras

if keras.backend.backend() == "tensorflow":
    from simclr_keras.model.tensorflow_step import TensorFlowStep as TrainStep
elif keras.backend.backend() == "jax":
    from simclr_keras.model.jax_step import JAXStep as TrainStep
else:
    from simclr_keras.model.torch_step import TorchStep as TrainStep

__all__ = ["TrainStep"]
