r"""Takes an encoder out of Keras: for TF Hub and TF Serving, ONNX or LiteRT.

    python examples/export.py --encoder=runs/photos --output=hub_module
    python examples/export.py --encoder=runs/photos --output=encoder.onnx
    python examples/export.py --encoder=runs/photos --output=encoder.tflite

What is written is told by the name: a file of ONNX or LiteRT, otherwise the
folder of a SavedModel, with a model card that has the run's configuration and
results. It takes images as the run's model does: of any size, which are cropped
and resized to that of the views. An encoder by itself takes its own size, or
any, unless --image_size says to which images are brought. Before it is there it
is loaded and compared with the model.
"""

import os

import command_line
import encoder_and_images

FORMATS = {".onnx": "export_onnx", ".tflite": "export_litert"}


def make_parser():
    """The command line."""
    parser = command_line.Parser(__doc__)
    encoder_and_images.add_encoder(parser, runs=False)
    command_line.add_output(parser, "folder, or .onnx or .tflite file")
    return parser


def check(options):
    """Raises a `UsageError` for what can be told without TensorFlow."""
    encoder_and_images.check_encoder(options)
    if encoder_and_images.is_saved_model(options.encoder):
        raise command_line.UsageError(
            "--encoder must be a run folder or a .keras file. Received a "
            f"SavedModel, which is exported already: {options.encoder}"
        )
    if extension(options) in FORMATS:
        command_line.check_output_file(options)
    else:
        command_line.check_output_folder(options)


def extension(options):
    """How --output ends, in small letters."""
    return os.path.splitext(options.output)[1].lower()


def write(encoder, options):
    """Writes --output, by the function of its format."""
    import simclr_keras

    # Its model crops and resizes; of a classifier the encoder alone leaves.
    model = encoder.whole
    if options.image_size and isinstance(model, simclr_keras.SimCLRModel):
        raise command_line.UsageError(
            "--image_size is for an encoder by itself. Received a SimCLRModel, "
            f"which knows what it does to images: {options.encoder}"
        )
    if not isinstance(model, simclr_keras.SimCLRModel):
        model = encoder.model
        if options.image_size:
            model = encoder_and_images.as_simclr_model(encoder, model, (0, 1))
            model.build((None, *encoder.image_size, encoder.channels))
    if extension(options) in FORMATS:
        export = getattr(simclr_keras.export, FORMATS[extension(options)])
        export(model, options.output)
        return
    of_run = {
        name: os.path.join(options.encoder, f"{file}.json")
        for name, file in (("results", "results"), ("recipe", "config"))
    }
    simclr_keras.export_saved_model(
        model,
        options.output,
        overwrite=options.overwrite,
        **{k: name for k, name in of_run.items() if os.path.exists(name)},
    )


def main(arguments=None):
    """Exports."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    with command_line.one_line_errors(parser):
        check(options)
        encoder = encoder_and_images.load_encoder(options, needs_size=False)
        print("Exporting, and comparing ...", flush=True)
        write(encoder, options)
        print(f"The encoder is in {options.output}")


if __name__ == "__main__":
    main()
