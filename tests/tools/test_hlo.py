"""Costs read from the text of compiled programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

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


def test_flops_of_products_and_convolutions_are_the_compilers():
    """Its count has sums of elements too: here there are none."""

    def work(image, kernel, left, right):
        convolved = lax.conv_general_dilated(
            image, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return convolved, jnp.einsum("bij,bjk->bik", left, right)

    shapes = ((2, 9, 11, 6), (3, 3, 6, 8), (4, 5, 6), (4, 6, 7))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    lowered = jax.jit(work).lower(*arrays)
    expected = lowered.cost_analysis()["flops"]
    assert expected > 2 * 2 * 4 * 5 * 8 * 9 * 6
    assert hlo.matrix_flops(lowered.as_text("hlo")) == expected


CONVOLUTIONS = {  # 2 images of 4 x 4 pixels and 6 channels, in 2 groups, to 2 x 2 and 8
    "Forward": ("(f32[2,2,2,8], u8[0])", "image", "kernel"),
    "BackwardInput": ("(f32[2,4,4,6], u8[0])", "result", "kernel"),
    "BackwardFilter": ("(f32[8,3,3,3], u8[0])", "image", "result"),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_flops_of_a_convolution_are_those_of_its_gradients(kind):
    """Called from a fusion that a loop runs ten times."""
    shape, *operands = CONVOLUTIONS[kind]
    text = f"""%called (image: f32[2,4,4,6]) -> f32[] {{
  %image = f32[2,4,4,6]{{3,2,1,0}} parameter(0)
  %kernel = f32[8,3,3,3]{{3,2,1,0}} parameter(1)
  %result = f32[2,2,2,8]{{3,2,1,0}} parameter(2)
  %conv = {shape} custom-call(%{operands[0]}, %{operands[1]}), window={{size=3x3 stride=2x2}}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv{kind}", feature_group_count=2
}}

%body (p: f32[]) -> f32[] {{
  ROOT %fused = f32[] fusion(%p), kind=kCustom, calls=%called
}}

ENTRY %main (p: f32[]) -> f32[] {{
  ROOT %loop = f32[] while(%p), condition=%c, body=%body, \
backend_config={{"known_trip_count":{{"n":"10"}}}}
}}
"""
    assert hlo.matrix_flops(text) == 10 * 2 * (2 * 2 * 2 * 8) * (3 * 3 * 3)


def test_a_product_of_a_library_counts_without_the_memory_it_works_in():
    text = """ENTRY %main (a: f32[4,6], b: f32[6,7]) -> f32[4,7] {
  %a = f32[4,6]{1,0} parameter(0)
  %b = f32[6,7]{1,0} parameter(1)
  %both = (f32[4,7]{1,0}, s8[4194304]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %product = f32[4,7]{1,0} get-tuple-element(%both), index=0
}
"""
    assert hlo.matrix_flops(text) == 2 * 4 * 6 * 7
    assert hlo.memory_traffic(text).total() == 4 * (4 * 6 + 6 * 7 + 4 * 7)


def test_of_an_operand_that_is_sliced_the_slices_are_read():
    text = """%cut (x: f32[1000], y: f32[1000]) -> f32[4] {
  %x = f32[1000]{0} parameter(0)
  %y = f32[1000]{0} parameter(1)
  %begin = f32[4]{0} slice(%x), slice={[0:4]}
  %end = f32[4]{0} slice(%x), slice={[996:1000]}
  %whole = f32[1000]{0} sine(%y)
  %some = f32[4]{0} slice(%whole), slice={[0:4]}
  %sum = f32[4]{0} add(%begin, %end)
  ROOT %all = f32[4]{0} add(%sum, %some)
}

ENTRY %main (a: f32[1000], b: f32[1000]) -> f32[2] {
  %a = f32[1000]{0} parameter(0)
  %b = f32[1000]{0} parameter(1)
  %few = f32[4]{0} fusion(%a, %b), kind=kLoop, calls=%cut
  ROOT %two = f32[2]{0} slice(%few), slice={[0:2]}
}
"""
    assert hlo.memory_traffic(text).total() == 4 * ((4 + 4 + 1000 + 4) + (2 + 2))


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
