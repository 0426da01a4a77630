"""Exports to other formats: SavedModel for TF Hub and TF Serving, ONNX, LiteRT.

Within Keras, save an encoder with `encoder.save("encoder.keras")`. Everything
else is covered here:

    simclr_keras.export_saved_model(model, "hub_module")
    simclr_keras.export.export_onnx(model, "encoder.onnx")
    simclr_keras.export.export_litert(model, "encoder.tflite")
"""

from simclr_keras.export.converters import export_litert, export_onnx
from simclr_keras.export.saved_model import export_saved_model
from simclr_keras.export.saved_model_encoder import SavedModelEncoder

__all__ = [
    "SavedModelEncoder",
    "export_litert",
    "export_onnx",
    "export_saved_model",
]
