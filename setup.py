import pathlib
import re

from setuptools import find_packages, setup

here = pathlib.Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"',
    (here / "simclr_keras" / "version.py").read_text(encoding="utf-8"),
).group(1)

datasets = [
    "tensorflow-datasets>=4.9.10",
    "importlib_resources",  # tensorflow-datasets needs it to download
]
hub = [
    "tensorflow-hub>=0.16.1",
    "tf-keras>=2.18",  # of the version of TensorFlow
    "setuptools<81",  # tensorflow-hub takes its version from pkg_resources
]
docs = [
    "mkdocs-material>=9.7",
    "mkdocstrings[python]>=1.0.8",
    "nbconvert>=7.16",  # makes pages of the notebooks
    "ruff==0.17.6",  # breaks the lines of signatures
]
onnx = ["tf2onnx>=1.17.0", "onnxruntime>=1.20"]
partners = ["keras-hub>=0.32", "keras-cv==0.9.0"]
plots = ["matplotlib>=3.9", "scikit-learn>=1.5", "scipy>=1.12"]
examples = [*plots, "tensorboard>=2.18"]
tiff = ["tifffile>=2024.8.10"]

setup(
    name="simclr_keras",
    version=version,
    description="SimCLR for Keras: representations of images without labels",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="SimCLR self-supervised contrastive representation learning "
    "Keras TensorFlow computer vision",
    packages=find_packages(include=["simclr_keras", "simclr_keras.*"]),
    python_requires=">=3.10",
    install_requires=[
        "absl-py>=2.1",
        "h5py>=3.11",  # comes with Keras
        "keras>=3.12",
        "numpy>=2.0",
        "pillow>=10.1",
        "tensorflow>=2.18",
    ],
    extras_require={
        "datasets": datasets,
        "docs": docs,
        "examples": [*datasets, *examples],
        "hub": hub,
        "jax": ["jax>=0.10"],
        "litert": ["ai-edge-litert>=2.3"],
        "onnx": onnx,
        "partners": partners,
        "plots": plots,
        "tiff": tiff,
        "torch": ["torch>=2.13"],
        "test": [
            *datasets,
            *examples,
            *hub,
            *onnx,
            *tiff,
            "build>=1.2",
            "hypothesis>=6.100",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff==0.17.6",
            "scipy>=1.12",
            "selenium>=4.25",
            "twine>=6.1",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
