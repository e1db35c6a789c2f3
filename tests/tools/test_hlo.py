"""Costs read from the text of compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from fields_jax.tools import hlo

PROGRAM = """HloModule jit_step

%body (p: (s32[], f32[256])) -> (s32[], f32[256]) {
  %p = (s32[], f32[256]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[256]{0} get-tuple-element(%p), index=1
  %y = f32[256]{0} fusion(%x), kind=kLoop, calls=%inner
  ROOT %t = (s32[], f32[256]{0}) tuple(%i, %y)
}

%cheap (q: f32[256]) -> f32[256] {
  %q = f32[256]{0} parameter(0)
  ROOT %c = f32[256]{0} copy(%q)
}

%dear (r: f32[256]) -> f32[256] {
  %r = f32[256]{0} parameter(0)
  %d = f32[256]{0} sine(%r)
  ROOT %e = f32[256]{0} cosine(%d)
}

ENTRY %main (a: f32[256], b: bf16[128,2]) -> f32[256] {
  %a = f32[256]{0:T(256)} parameter(0)
  %b = bf16[128,2]{1,0} parameter(1)
  %start = (f32[256]{0:T(256)}, f32[256]{0:T(256)S(1)}, u32[]{:S(2)}) copy-start(%a)
  %near = f32[256]{0:T(256)S(1)} copy-done(%start)
  %sum = f32[256]{0} fusion(%near, %b), kind=kLoop, calls=%inner
  %all = (f32[256]{0}, /*index=1*/f32[256]{0}) all-reduce(%sum, %a), replica_groups={{0,1}}
  %one = f32[256]{0} get-tuple-element(%all), index=0
  %n = s32[] constant(0)
  %init = (s32[], f32[256]{0}) tuple(%n, %one)
  %loop = (s32[], f32[256]{0}) while(%init), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"10"}}
  %last = f32[256]{0} get-tuple-element(%loop), index=1
  %which = s32[] constant(1)
  ROOT %out = f32[256]{0} conditional(%which, %last, %last), branch_computations={%cheap, %dear}
}
"""  # noqa: E501 - as XLA prints it


def test_traffic_by_hand():
    kib = 1024
    expected = {
        "a brought to the chip": kib,
        "sum: b read, sum written, `near` is on the chip": kib // 2 + kib,
        "all-reduce: two arrays": 4 * kib,
        "ten times the loop's body": 10 * 2 * kib,
        "the dearer branch": 4 * kib,
    }
    assert hlo.memory_traffic(PROGRAM) == {"": sum(expected.values())}


def test_collectives_by_hand():
    assert hlo.collectives(PROGRAM) == (1, 2048)


@pytest.mark.parametrize("count", [1000, 4096])
def test_traffic_of_a_compiled_sum(count):
    """Two arrays in, one out, in one fusion."""
    array = jax.ShapeDtypeStruct((count,), jnp.float32)
    compiled = jax.jit(lambda x, y: jnp.sin(x) + 2 * y).lower(array, array).compile()
    assert hlo.memory_traffic(compiled.as_text()).total() == 3 * 4 * count


def test_traffic_is_told_by_module():
    sums = {
        "jit(step)/shard_map/jvp(Model.paint)/synthesizer/decoder1/conv/cond/branch_1_fun/add": 1,
        "jit(step)/transpose(jvp(Model.paint))/synthesizer/decoder1/norm/mul": 2,
        "jit(step)/jvp(Model)/Model.encode/shape_encoder/shape_encoder.pooled/mul": 3,
        "jit(step)/mul": 4,
    }
    lines = [
        f'  %x{n} = f32[{250 * n}]{{0}} fusion(), kind=kLoop, metadata={{op_name="{name}"}}'
        for name, n in sums.items()
    ]
    text = "\n".join(["ENTRY %main () -> f32[1] {", *lines, "}"])
    assert hlo.memory_traffic(text) == {
        "synthesizer/decoder1": 1000,
        "synthesizer/decoder1, backward": 2000,
        "shape_encoder": 3000,
        "": 4000,
    }
