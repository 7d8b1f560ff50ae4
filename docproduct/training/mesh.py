"""The devices of --engine=jax as a mesh: the rows of a batch are shared along one axis, the weights along the other.

    data    each part has some rows of a batch
    model   each part has some rows or columns of every large matrix, and of AdamW's two moments of it

keras.distribution places variables and batches. XLA finds out what devices must exchange, and computes what one device
would: a part need not end where a head ends.
"""

import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from docproduct.training import engine

AXES = DATA, MODEL = ("data", "model")

# Paths of the variables that are cut, and the axis: the first one that the devices share evenly. A product that is cut
# by columns is followed by one that is cut by rows, so that little is exchanged between the two.
_CUT = {
    r".*/(query_key_value|gate_and_inner|inner|head)/(kernel|lora_b)": (1,),
    r".*/(query_key_value|gate_and_inner|inner|head)/bias": (0,),
    r".*/output/(kernel|lora_a)": (0,),
    r".*/token_embedding/embeddings": (0, 1),
}


class _ModelParallel(keras.distribution.ModelParallel):
    """Cuts the variables of `_CUT`; all others are whole on each device.

    The layout map of Keras knows paths only, and an axis that cannot be shared evenly would be an error.
    """

    def get_variable_layout(self, variable: keras.Variable) -> keras.distribution.TensorLayout:
        """Returns how a variable is cut."""
        parts = self.device_mesh.shape[self.device_mesh.axis_names.index(MODEL)]
        axes = next((axes for path, axes in _CUT.items() if re.fullmatch(path, variable.path)), ())
        cut = next((axis for axis in axes if variable.shape[axis] % parts == 0), None)
        return _layout(len(variable.shape), cut, MODEL)


def set_up(name: str, mesh: str | None, strategy: str) -> None:
    """Checks the flags of engine and devices, and sets the mesh. Call it before any model is made.

    Args:
      name: the engine, one of `engine.ENGINES`.
      mesh: such as "data=2,model=2"; an axis that is left out has 1. Default: all devices along `data`.
      strategy: TensorFlow's; JAX knows the default only.

    Raises:
      ValueError: engine, mesh and strategy do not fit together, or the mesh does not fit the devices.
    """
    engine.check(name, keras.backend.backend())
    if name != engine.JAX:
        if mesh is not None:
            raise ValueError("--mesh is for --engine=jax. Leave it out, or give --engine=jax, too.")
        return
    if strategy != "default":
        raise ValueError(f"--strategy={strategy} is TensorFlow's. With --engine=jax, give --mesh instead.")
    tf.config.set_visible_devices([], "GPU")  # TensorFlow only makes batches, and would take the GPUs' memory
    use(mesh)


def use(mesh: str | None) -> None:
    """Sets the mesh for all models and batches that are made from now on.

    Raises:
      ValueError: the mesh is malformed, or has more devices than there are.
    """
    devices = keras.distribution.list_devices()
    sizes = _parse(mesh) if mesh is not None else {DATA: len(devices), MODEL: 1}
    axes = AXES if sizes[MODEL] > 1 else (DATA,)  # keras.distribution.DataParallel takes one axis
    shape = tuple(sizes[axis] for axis in axes)
    count = int(np.prod(shape))
    if count > len(devices):
        raise ValueError(
            f"--mesh={mesh} needs {count} devices; there are {len(devices)} ({', '.join(devices)}). Give a smaller "
            f"mesh. To try it out on a processor: XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    if count == 1:
        keras.distribution.set_distribution(None)
        return
    made = keras.distribution.DeviceMesh(shape, axes, np.array(devices[:count]).reshape(shape))
    if sizes[MODEL] > 1:
        distribution = _ModelParallel(layout_map=keras.distribution.LayoutMap(made), batch_dim_name=DATA)
    else:
        distribution = keras.distribution.DataParallel(made)
    keras.distribution.set_distribution(distribution)


def _parse(mesh: str) -> dict[str, int]:
    """Returns the number of devices along each axis."""
    expected = f"Expected, for example, {DATA}=2,{MODEL}=2; the axes are {' and '.join(AXES)}."
    sizes: dict[str, int] = {}
    for part in mesh.split(","):
        axis, _, size = (text.strip() for text in part.partition("="))
        if axis not in AXES or axis in sizes:
            raise ValueError(f"--mesh={mesh} has {'twice ' if axis in sizes else ''}the axis {axis!r}. {expected}")
        if not size.isdecimal() or int(size) < 1:
            raise ValueError(f"--mesh={mesh} has {size!r} devices along {axis}. {expected}")
        sizes[axis] = int(size)
    return dict.fromkeys(AXES, 1) | sizes


def is_used() -> bool:
    """Returns whether there are several devices."""
    return keras.distribution.distribution() is not None


def data_parts() -> int:
    """Returns among how many parts the rows of a batch are shared."""
    return keras.distribution.distribution().device_mesh.shape[0] if is_used() else 1


def check_rows(num_rows: int) -> None:
    """Raises a ValueError if the devices cannot share the rows that are read at a time."""
    if num_rows % data_parts():
        raise ValueError(
            f"{num_rows} rows are read at a time, which {data_parts()} devices along the axis {DATA} cannot share "
            "evenly. Give a multiple as --batch_size, or as --chunk_size if it is given, or another --mesh."
        )


def share_rows(array: np.ndarray, axis: int) -> Any:
    """Returns an array on the devices, shared along the axis of its rows; `data_parts` divides their number."""
    if not is_used():
        return keras.ops.convert_to_tensor(array)
    return keras.distribution.distribute_tensor(array, _layout(array.ndim, axis, DATA))


def _layout(num_axes: int, cut: int | None, name: str) -> keras.distribution.TensorLayout:
    names = tuple(name if axis == cut else None for axis in range(num_axes))
    return keras.distribution.TensorLayout(names, keras.distribution.distribution().device_mesh)
