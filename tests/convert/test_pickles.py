"""The reader of pickles describes their content and never executes it."""

from __future__ import annotations

import collections
import datetime
import json
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from fields_jax.convert import pickles
from fields_jax.convert.descriptions import Damaged, Entries, Made, Name, entries
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import CHUMPY, FLAME, stored_array
from fields_jax.convert.torch_files import NAMES as TORCH
from fields_jax.convert.torch_files import read_torch
from fields_jax.errors import UserError
from tests.support import hostile_pickles as hostile
from tests.support.published_files import chumpy_array, python2_pickle

ROOT = Path(__file__).parents[2]
PLAIN = [
    *(None, True, False, 0, 255, 65_536, -1, 2**31, -(2**70), 0.5, -1e300, "", "é\u2028\U0001f600"),
    *(b"", b"\x00\xff" * 200, (), (1,), (1, 2, 3, 4), [], [1, [2]], "text" * 100),
]


def describe(content: bytes):
    return read_pickle(content, "x.pkl", FLAME | TORCH, ignored=CHUMPY)


def test_every_opcode_of_python_is_known():
    codes = {opcode.code.encode("latin1") for opcode in pickletools.opcodes}
    assert codes - {b"."} == pickles._OPCODES.keys()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:20])
def test_plain_values_are_those_that_were_written(value, protocol):
    content = pickle.dumps([value, value], protocol) + b"behind"
    (one, two), end = describe(content)
    if isinstance(value, bytes) and protocol < 3:
        assert isinstance(one, Made)  # of _codecs.encode
        return
    assert one == two == value and type(one) is type(value)
    assert content[end:] == b"behind"


@pytest.mark.parametrize("protocol", range(6))
def test_dictionaries_sets_and_loops_are_described(protocol):
    value = collections.OrderedDict(a=1, b={"c": {1, 2}})
    value["self"] = [value["b"]]
    found, _ = describe(pickle.dumps(value, protocol))
    read = entries(found)
    assert read["a"] == 1 and read["self"][0] is read["b"]
    numbers = entries(read["b"])["c"]
    assert isinstance(numbers, Made) and numbers.of == Name("builtins", "set")
    loop: list = []
    loop.append(loop)
    found, _ = describe(pickle.dumps(loop, protocol))
    assert found[0] is found
    with pytest.raises(Damaged, match="a dictionary has a int for a key, expected text"):
        entries(describe(pickle.dumps({1: 2}, protocol))[0])


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(4, dtype=">u4"),
    np.array(3, np.uint8),
    np.zeros((0, 5)),
    np.array([True, False]),
    np.array(["a", "é"]),
    np.float64(0.5),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_arrays_are_those_that_were_written(array, protocol):
    found = stored_array(describe(pickle.dumps(array, protocol))[0])
    assert found.shape == array.shape and found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.read(), array)
    assert found.read().dtype == found.dtype


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_2_and_chumpy_are_read(protocol):
    """State by state what chumpy 0.70 pickles; files of its own under Python 2.7 read alike."""
    rng = np.random.default_rng(0)
    x, matrix = rng.random((4, 3, 2)), scipy.sparse.random(5, 7, 0.3, "csc", random_state=0)
    with chumpy_array() as wrap:
        parts = {
            "x": wrap(x),
            "nested": wrap(wrap(x)),
            "s": matrix,
            "name": "caf\xe9",
            "long": 2**70,
        }
        parts |= {"fortran": np.asfortranarray(x), "single": np.float32(x)}
        content = python2_pickle(parts, protocol)
    assert pickle.loads(python2_pickle(x, protocol), encoding="latin1").tobytes() == x.tobytes()
    read = entries(describe(content)[0])
    assert (read["name"], read["long"]) == ("caf\xe9", 2**70)
    for key in ("x", "nested", "fortran"):
        np.testing.assert_array_equal(stored_array(read[key]).read(), x)
    np.testing.assert_array_equal(stored_array(read["single"]).read(), np.float32(x))
    np.testing.assert_array_equal(stored_array(read["s"]).read(), matrix.toarray())


def test_what_chumpy_would_compute_is_named():
    made = Made(Name("copyreg", "_reconstructor"), (Name("chumpy.ch_ops", "add"),), Entries())
    with pytest.raises(Damaged, match=r"'chumpy.ch_ops.add', which is computed and not stored"):
        stored_array(made)


def nested_chumpy(depth: int) -> Made:
    made: object = None
    for _ in range(depth):
        made = Made(Name("chumpy.ch", "Ch"), (), Entries([("x", made)]))
    return made


def claims(shape, content=b"\x00" * 8, code="f8", order="<") -> bytes:
    """An array's pickle that claims a shape."""
    sides = b"(" + b"".join(b"\x8a\x09" + side.to_bytes(9, "little", signed=True) for side in shape)
    reconstruct = hostile.global_of(Name("numpy.core.multiarray", "_reconstruct"))
    state = hostile.number(1) + sides + b"t" + hostile.dtype(code, order) + b"\x89"
    state += b"C" + bytes([len(content)]) + content
    return b"\x80\x04" + reconstruct + b")R(" + state + b"tb."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claims([10**12]), r"an array of shape .* in 8 bytes"),
        (claims([-1]), "an array of shape"),
        (claims([2**40, 2**40, 0], b""), "an array of shape .* in 0 bytes"),
        (claims([1], code="O8"), "an array of type 'O8', neither numbers nor text"),
        (claims([1], code="V8"), "neither numbers nor text"),
        (claims([1], code="f8,O8"), "neither numbers nor text"),
        (claims([1], order="?"), "a type of numbers without a code"),
        (pickle.dumps(np.array([{}], object)), "neither numbers nor text"),
        (pickle.dumps(np.zeros(2, "f4,i2")), "neither numbers nor text"),
        (pickle.dumps({}), "a dictionary in place of an array"),
        (pickle.dumps("x"), "a str in place of an array"),
    ],
)
def test_an_array_that_is_none_is_refused_before_memory_is_asked_for(content, message):
    with pytest.raises((Damaged, UserError), match=message):
        stored_array(describe(content)[0]).read()


def test_a_type_that_hides_objects_is_refused():
    """Numpy's own reader makes of this a type of objects that says it holds none."""
    state = hostile.number(3) + hostile.text("|") + b"NNN" + hostile.number(8) * 2
    lying = hostile.global_of(Name("numpy", "dtype")) + hostile.text("O8") + b"\x89\x88\x87R("
    lying += state + hostile.number(0) + b"tb"
    scalar = hostile.global_of(Name("numpy.core.multiarray", "scalar")) + lying
    scalar += b"C\x08" + b"\x41" * 8 + b"\x86R."
    with pytest.raises(Damaged, match="'O8', neither numbers nor text"):
        stored_array(describe(scalar)[0])


SPARSE = scipy.sparse.csc_matrix(np.eye(3))


@pytest.mark.parametrize(
    "change",
    [
        dict(_shape=(10**7, 10**7)),
        dict(_shape=(3, -3)),
        dict(_shape="33"),
        dict(_shape=(2, 3)),
        dict(indices=np.array([0, 1, 99], np.int32)),
        dict(indices=np.array([0, -1, 2], np.int32)),
        dict(indices=np.array([0.5, 1, 2])),
        dict(indptr=np.array([0, 9, 2, 3], np.int32)),
        dict(indptr=np.array([1, 1, 2, 3], np.int32)),
        dict(indptr=np.array([0, 1], np.int32)),
        dict(data=np.zeros((3, 1))),
        dict(data=None),
    ],
    ids=str,
)
def test_a_sparse_matrix_that_does_not_fit_is_refused(change):
    matrix = SPARSE.copy()
    matrix.__dict__ |= change
    described, _ = describe(pickle.dumps(matrix, 2))
    with pytest.raises(Damaged):
        stored_array(described).read()


def test_deep_and_endless_descriptions_end(monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_OPCODES", 200_000)
    with pytest.raises(Damaged):
        stored_array(nested_chumpy(1000))
    with pytest.raises(UserError, match="more than 200000 opcodes"):
        describe(b"]" * 200_001)
    deep = b"N" + b"\x85" * 190_000 + b"."
    found, _ = describe(deep)
    with pytest.raises(Damaged):
        stored_array(found)
    with pytest.raises(UserError, match="items for a int"):
        describe(b"K\x01" + deep[:-1] + b"a.")


def test_dictionaries_that_hold_each_other_many_times_over_are_counted(tmp_path):
    """A few hundred bytes that say 12 to the 8th entries."""
    inner: dict = {"x": 1}
    for _ in range(8):
        inner = dict.fromkeys("abcdefghijkl", inner)
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(inner, 2))
    assert path.stat().st_size < 1500
    with pytest.raises(UserError, match=r"a.pt is damaged .*more than 100,000 entries"):
        read_torch(str(path))


STATES = [b"}", b"N", b"}\x8c\x01aK\x01s", b"N}\x8c\x08__code__K\x01s\x86", b"(K\x01)\x89C\x00t"]


def test_each_opcode_with_each_allowed_name_ends_in_a_description():
    """All ways to call, to set a state and to add, on every name that may occur."""
    names = [*sorted(FLAME | TORCH), Name("chumpy.ch", "Ch"), Name("chumpy", "anything")]
    ended = collections.Counter()
    for name in names:
        named = hostile.global_of(name)
        lines = named[1:]
        calls = [named + b")R", named + b"N\x85R", named + b")\x81", named + b")}\x92"]
        calls += [b"(" + named + b"o", b"(i" + lines, b"(K\x01i" + lines, named]
        for call in calls:
            after = [b"", *(state + b"b" for state in STATES), b"K\x01a", b"(K\x01e", b"(K\x01\x90"]
            after += [b"K\x01K\x02s", b"(K\x01K\x02u", b"Q", b"\x85", b"2\x86", b"0N", b"\x94h\x00"]
            for more in after:
                try:
                    found = hostile.read(b"\x80\x04" + call + more + b".")
                except UserError:
                    ended["refused"] += 1
                else:
                    assert hostile.kinds(found) <= set(hostile.INERT)
                    hostile.use(found)
                    ended["described"] += 1
    for opcode in pickletools.opcodes:
        code = opcode.code.encode("latin1")
        for argument in (b"", b"\x01", b"\x01" * 8, b"1\n", b"numpy\ndtype\n", b"'x'\n"):
            for before in (b"", b"(", b"NN", b"]N", b"}NN", b"cnumpy\ndtype\n)", b"(NN", b"](N"):
                try:
                    found = hostile.read(before + code + argument + b"." * 3)
                except UserError:
                    ended["refused"] += 1
                else:
                    hostile.use(found)
                    ended["described"] += 1
    assert ended["described"] > 5000 and ended["refused"] > 1000


def test_names_beside_the_allowed_ones_are_refused_even_where_the_file_breaks():
    for name in ("os.system", "numpy.load", "numpy.core.multiarray.fromfile", "torch.load"):
        module, _, attribute = name.rpartition(".")
        content = f"c{module}\n{attribute}\n".encode()
        for end in (b".", b"\xff", b""):
            with pytest.raises(UserError, match=rf"x.pkl names {name}, which no file"):
                describe(content + end)
    with pytest.raises(UserError, match=r"names Traceback\\x1b\[2J.x, which no file"):
        describe(b"cTraceback\x1b[2J\nx\n.")
    with pytest.raises(UserError, match=r"names builtins\.eval"):
        describe(b"c__builtin__\neval\n.")
    with pytest.raises(UserError, match=r"names datetime.date"):
        describe(pickle.dumps(datetime.date(2000, 1, 1)))


def test_5000_random_programs_harm_nobody(tmp_path):
    """In a process of its own: no crash, nothing made, nothing run, no memory to speak of."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_pickles", "5000", "0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    counts = json.loads(result.stdout)
    assert counts["read"] + counts["refused"] == 5000
    assert counts["read"] > 300 and counts["named"] > 50 and counts["arrays"] > 10
    assert counts["kilobytes"] < 200 * 1024
    assert os.listdir(tmp_path) == []
