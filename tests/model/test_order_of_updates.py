"""Nothing reads a weight once the optimizer may have updated it.

Timing seldom shows a read that comes too late, so this looks at the graph that
TensorFlow runs, after its own optimizers.
"""

import collections

import keras
import pytest
from tensorflow.python.eager import context

import simclr_keras
from tests.model.models import random_images


def model_and_images(micro_batch_size):
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, kernel_regularizer="l2"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    head = keras.Sequential(
        [keras.layers.Dense(8, "tanh"), keras.layers.Dense(6)]
    )
    model = simclr_keras.SimCLRModel(
        encoder,
        head,
        simclr_keras.augmentation.RandomGaussianNoise(seed=0),
    )
    model.compile(
        simclr_keras.LARS(0.1),
        jit_compile=False,
        micro_batch_size=micro_batch_size,
    )
    return model, random_images(20)


def graph_of_a_step(model, images):
    """The main graph of a step, as the executor has it."""
    model.train_on_batch(images)  # Builds the model.
    model.make_train_function(force=True)
    context.enable_run_metadata()
    try:
        model.train_on_batch(images)
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    return max(graphs, key=lambda graph: len(graph.node))


class Graph:
    def __init__(self, graph):
        self.nodes = {node.name: node for node in graph.node}

    def inputs(self, name):
        return [
            each.lstrip("^").split(":")[0] for each in self.nodes[name].input
        ]

    def variable(self, name):
        """The argument that an operation on a variable gets."""
        while self.nodes[name].op != "_Arg":
            name = self.inputs(name)[0]
        return name

    def before(self, name):
        """All that has run when an operation runs."""
        found, ahead = set(), [name]
        while ahead:
            new = set(self.inputs(ahead.pop())) - found
            found |= new
            ahead.extend(new)
        return found


# Micro-batches of 7, 7 and 6: two in a loop, one beside it.
@pytest.mark.parametrize(
    "micro_batch_size", [None, pytest.param(7, marks=pytest.mark.slow)]
)
def test_updates_wait_for_all_reads(micro_batch_size):
    graph = Graph(graph_of_a_step(*model_and_images(micro_batch_size)))
    reads = collections.defaultdict(set)
    updates = {}
    for name, node in graph.nodes.items():
        if node.op == "ReadVariableOp":
            reads[graph.variable(name)].add(name)
        elif node.op == "AssignSubVariableOp":
            updates[graph.variable(name)] = name
    assert len(updates) >= 6
    for variable, update in updates.items():
        late = reads[variable] - graph.before(update)
        # Constraints are applied to what the update left.
        late = {r for r in late if update not in graph.before(r)}
        assert not late, late
