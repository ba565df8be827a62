"""Every published size: its number of parameters, and its config both ways."""

import json

import pytest

from seedbed.models.network import FAMILIES, build, export_tensors, family, parameter_count, preset


def masked_head(d_model: int, vocab_size: int) -> int:
    """Parameters of BERT's head, which published counts leave out: a product, a norm, a bias."""
    return d_model * d_model + 3 * d_model + vocab_size


COUNTS = {
    "gpt:117m": 116_534_784,
    "bloom:560m": 559_214_592,
    "bloom:1b1": 1_065_314_304,
    "bloom:3b": 3_002_557_440,
    "bloom:7b1": 7_069_016_064,
    "bloom:176b": 176_247_271_424,
    "palm:8b": 8_632_012_800,  # the paper says 8.63, 62.50 and 540.35 billion
    "palm:62b": 62_495_662_080,
    "palm:540b": 540_356_474_880,
    "bert:tiny": 4_385_920 + masked_head(128, 30_522),
    "bert:mini": 11_170_560 + masked_head(256, 30_522),
    "bert:small": 28_763_648 + masked_head(512, 30_522),
    "bert:base": 109_482_240 + masked_head(768, 30_522),
    "bert:large": 335_141_888 + masked_head(1024, 30_522),
    "roberta:base": 124_697_433,
    "roberta:large": 355_412_057,
    "t5:small": 60_506_624,
    "t5:base": 222_903_552,
    "t5:large": 737_668_096,
    "t5:3b": 2_851_598_336,
    "t5:11b": 11_307_321_344,
    "t5:flan-small": 76_961_152,
    "t5:flan-base": 247_577_856,
    "t5:flan-large": 783_150_080,
    "t5:flan-xl": 2_849_757_184,
    "t5:flan-xxl": 11_135_332_352,
    "bart:base": 139_420_416,
    "bart:large": 406_291_456,
    "transformer:base": 63_082_496,  # the paper says 65 and 213 million
    "transformer:big": 214_245_376,
    "gpt2:124m": 124_439_808,
    "gpt2:355m": 354_823_168,
    "gpt2:774m": 774_030_080,
    "gpt2:1558m": 1_557_611_200,
    "llama:7b": 6_738_415_616,
    "llama:13b": 13_015_864_320,
    "llama:33b": 32_528_943_616,
    "llama:65b": 65_285_660_672,
    "llama:2-7b": 6_738_415_616,
    "llama:2-13b": 13_015_864_320,
    "llama:2-70b": 68_976_648_192,
    "llama:3-8b": 8_030_261_248,
    "llama:3.1-8b": 8_030_261_248,
    "llama:3.1-70b": 70_553_706_496,
    "llama:3.2-1b": 1_235_814_400,
    "llama:3.2-3b": 3_212_749_824,
    "llama:smollm2-135m": 134_515_008,
    "llama:smollm2-360m": 361_821_120,
    "llama:smollm2-1.7b": 1_711_376_384,
    "mistral:7b-v0.1": 7_241_732_096,
    "mistral:7b-v0.2": 7_241_732_096,
    "mistral:7b-v0.3": 7_248_023_552,
    "mistral:nemo-12b": 12_247_782_400,
    "qwen2:0.5b": 494_032_768,
    "qwen2:1.5b": 1_543_714_304,
    "qwen2:7b": 7_615_616_512,
    "qwen2:72b": 72_706_203_648,
    "qwen2:2.5-0.5b": 494_032_768,
    "qwen2:2.5-1.5b": 1_543_714_304,
    "qwen2:2.5-3b": 3_085_938_688,
    "qwen2:2.5-7b": 7_615_616_512,
    "qwen2:2.5-14b": 14_770_033_664,
    "qwen2:2.5-32b": 32_763_876_352,
    "qwen2:2.5-72b": 72_706_203_648,
    "qwen3:0.6b": 596_049_920,
    "qwen3:1.7b": 1_720_574_976,
    "qwen3:4b": 4_022_468_096,
    "qwen3:8b": 8_190_735_360,
    "qwen3:14b": 14_768_307_200,
    "qwen3:32b": 32_762_123_264,
    "gemma:2b": 2_506_172_416,
    "gemma:7b": 8_537_680_896,
    "lstm:small": 4_653_200,
    "lstm:medium": 19_780_400,  # Zaremba et al. say 20 and 66 million
    "lstm:large": 66_034_000,
    "gru:small": 4_492_400,
    "gru:medium": 18_087_800,
    "gru:large": 57_028_000,
    "seedling:1m": 1_835_008,
    "seedling:11m": 13_762_560,
    "seedling:85m": 91_226_112,
}


def test_every_preset_has_its_published_number_of_parameters() -> None:
    presets = [f"{name}:{size}" for name in FAMILIES.names() for size in family(name).presets]
    assert {name: parameter_count(preset(name)) for name in presets} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_a_config_survives_its_json(name: str) -> None:
    chosen = family(name.split(":")[0])
    written = json.loads(json.dumps(chosen.write_config(preset(name))))
    assert chosen.write_config(chosen.read_config(written)) == written
    tensors = export_tensors(build(preset(name), "meta"))  # some configs do not say which head a file has
    assert parameter_count(chosen.fit(chosen.read_config(written), tensors)) == COUNTS[name]
