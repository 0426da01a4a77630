import pathlib
import sys

# The examples import each other by name, as scripts of one folder do.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
