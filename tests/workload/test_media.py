"""Images, videos and sounds from files become what a processor takes, and what is none is one clear line."""

import json
import wave

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import laptime
from laptime.errors import LaptimeError
from laptime.measure.profile_inputs import workload
from laptime.measure.profile_request import ProfileRequest
from laptime.models.loading import Loaded
from laptime.models.processors import byte_tokenizer
from laptime.workload.datasets import inputs_from_examples
from laptime.workload.inputs import make_inputs, make_sound_inputs
from laptime.workload.jsonl import read_jsonl
from laptime.workload.media import MAX_FRAMES, open_image, open_sound, open_video
from tests.models import tiny, tiny_encoders
from tests.workload.families import loaded, tokenizer_of

SIDE = {"height": 28, "width": 28}


def questions(folder, *entries):
    file = folder / "questions.jsonl"
    file.write_text("\n".join(json.dumps(entry) for entry in entries) + "\n")
    return file


def picture(path, shade):
    Image.new("RGB", (40, 30), (shade, 90, 20)).save(path)


def write_wav(path, values, rate):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.asarray(values) * 32767).astype(np.int16).tobytes())


def test_a_question_with_several_images_shows_all_of_them(tmp_path):
    for number in range(2):
        picture(tmp_path / f"{number}.png", 100 * number)
    one, two = read_jsonl(
        questions(
            tmp_path,
            {"id": "one", "image": "0.png", "question": "What?"},
            {"id": "two", "images": ["0.png", "1.png"], "question": "What?"},
        )
    )
    model = loaded("llava")
    single, both = inputs_from_examples(model, [one]), inputs_from_examples(model, [two])
    assert (single.images, both.images) == (1, 2)
    assert both.image_tokens == 2 * single.image_tokens > 0
    assert both.kwargs["pixel_values"].shape[0] == 2
    assert both.preprocess_ms > 0


def test_a_batch_of_questions_is_one_call_padded_on_the_left(tmp_path):
    picture(tmp_path / "0.png", 50)
    file = questions(
        tmp_path,
        *({"id": f"q{n}", "image": "0.png", "question": "What is it? " * (n + 1)} for n in range(5)),
    )
    model = loaded("llava")
    calls = list(workload(ProfileRequest(model="llava", data=file, batch=2, samples=9), model))
    assert [name for name, _ in calls] == ["q0+q1", "q2+q3"]  # the fifth makes no whole batch
    ids, mask = calls[0][1].kwargs["input_ids"], calls[0][1].kwargs["attention_mask"]
    assert ids.shape[0] == 2
    assert mask[0].tolist() == sorted(mask[0].tolist())
    assert mask[0].sum() < mask[1].sum() == ids.shape[1]
    assert calls[0][1].kwargs["pixel_values"].shape[0] == 2


def test_text_alone_is_padded_where_the_tokenizer_has_no_padding_of_its_own(tmp_path):
    model = loaded("llama")
    model.tokenizer.pad_token = None
    rows = read_jsonl(questions(tmp_path, {"question": "Why?"}, {"question": "Why not?"}))
    mask = inputs_from_examples(model, rows).kwargs["attention_mask"]
    assert (mask[0].sum(), mask[1].sum()) == (4, 8)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"image": "0.png", "question": "What is <image>?"}, "'<image>'"),
        ({"images": "0.png", "question": "What?"}, "'images' must be a list"),
        ({"images": ["0.png", None], "question": "What?"}, "'images' must be a list"),
        ({"image": "0.png", "images": ["0.png"], "question": "What?"}, "'image' and 'images'"),
        ({"images": ["1.png"], "question": "What?"}, "no image file"),
        ({"audio": "no.wav"}, "no audio file"),
        ({"audio": "0.png"}, "takes none"),
        ({"video": "http://x/y.mp4", "question": "What?"}, "no local file"),
        ({"video": "empty", "question": "What?"}, "holds no frame"),
    ],
)
def test_what_can_not_be_asked_is_one_clear_line(tmp_path, entry, says):
    picture(tmp_path / "0.png", 50)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LaptimeError, match=says):
        inputs_from_examples(loaded("llava"), read_jsonl(questions(tmp_path, entry)))


def test_a_video_is_a_folder_of_frames_or_an_animation(tmp_path):
    (tmp_path / "frames").mkdir()
    frames = [Image.new("RGB", (8, 8), (3 * number, 0, 0)) for number in range(40)]
    for number, frame in enumerate(frames):
        frame.save(tmp_path / "frames" / f"{number:03d}.png")
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:5])
    read = open_video(tmp_path / "frames", "here")
    assert len(read) == MAX_FRAMES
    assert (read[0].getpixel((0, 0)), read[-1].getpixel((0, 0))) == ((0, 0, 0), (117, 0, 0))
    assert len(open_video(tmp_path / "a.gif", "here")) == 5
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(LaptimeError, match=r"PyAV|no readable video"):
        open_video(tmp_path / "b.mp4", "here")


def test_an_image_stands_upright_and_16_bits_of_grey_become_8(tmp_path):
    turned = Image.new("RGB", (40, 30), (10, 90, 20))
    turned.putpixel((0, 0), (250, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn it a quarter clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = open_image(tmp_path / "turned.png", "here")
    assert (upright.size, upright.getpixel((29, 0))) == ((30, 40), (250, 0, 0))
    grey = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    read = np.asarray(open_image(tmp_path / "deep.png", "here"))
    assert (read[..., 0] == grey // 256).all() and (read[..., 0] == read[..., 2]).all()


def test_a_sound_is_read_at_the_processors_rate(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    write_wav(tmp_path / "a.wav", 0.5 * tone, 8000)
    sound = open_sound(tmp_path / "a.wav", 16000, "here")
    assert (sound.dtype, len(sound)) == (np.float32, 16000)
    assert 0.45 < np.abs(sound[100:-100]).max() < 0.55
    loudest = np.abs(np.fft.rfft(sound)).argmax()
    assert loudest == 440
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(LaptimeError, match=r"WAV|no readable sound"):
        open_sound(tmp_path / "b.wav", 16000, "here")


def whisper():
    model, _ = tiny_encoders.build("whisper")
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    processor = transformers.WhisperProcessor(extractor, tokenizer_of("llama"))
    return Loaded("whisper", model, processor, processor.tokenizer, "local", False)


def qwen2_audio():
    model, _ = tiny_encoders.build("qwen2_audio")
    special = {0: "<pad>", 300: "<|AUDIO|>", 301: "<|audio_bos|>", 302: "<|audio_eos|>"}
    tokenizer = byte_tokenizer(320, special, pad=0, context=256)
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    processor = transformers.Qwen2AudioProcessor(extractor, tokenizer, chat_template="")
    processor.chat_template = None
    return Loaded("qwen2_audio", model, processor, tokenizer, "local", False)


def test_a_model_that_writes_down_what_it_hears_takes_a_sound_and_no_question(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(8000), 16000)
    model = whisper()
    heard, asked = read_jsonl(questions(tmp_path, {"audio": "a.wav"}, {"audio": "a.wav", "question": "What?"}))
    inputs = inputs_from_examples(model, [heard])
    with laptime.StageTimer(model.model) as timer:
        model.model.generate(**inputs.kwargs, max_new_tokens=3)
    assert timer.last.stages.encode_ms > 0
    with pytest.raises(LaptimeError, match="no question"):
        inputs_from_examples(model, [asked])


def test_a_made_up_sound_has_its_stage(tmp_path):
    model = qwen2_audio()
    inputs = make_sound_inputs(model, prompt_tokens=9, seconds=0.5, batch=1, new_tokens=3)
    assert inputs.text_tokens == 9
    with laptime.StageTimer(model.model) as timer:
        model.model.generate(**inputs.kwargs, max_new_tokens=3)
    assert timer.last.stages.audio_ms > 0
    write_wav(tmp_path / "a.wav", np.zeros(8000), 16000)
    asked = read_jsonl(questions(tmp_path, {"audio": "a.wav", "question": "What is said?"}))
    assert "input_features" in inputs_from_examples(model, asked).kwargs


TEXT = {key: value for key, value in tiny.TEXT.items() if key != "num_key_value_heads"}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def mllama():
    vision = {**VISION, "attention_heads": 2, "num_global_layers": 1, "intermediate_layers_indices": [0]}
    text = {**tiny.TEXT, "cross_attention_layers": [1]}
    config = transformers.MllamaConfig(
        vision_config={**vision, "vision_output_dim": 48}, text_config=text, image_token_index=tiny.IMAGE
    )
    images = transformers.MllamaImageProcessorPil(size=SIDE, max_image_tiles=4)
    tokenizer = tokenizer_of("paligemma")
    return transformers.MllamaForConditionalGeneration(config), transformers.MllamaProcessor(images, tokenizer)


def blip_2():
    reader = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "encoder_hidden_size": 24,
        "vocab_size": 320,
    }
    text = {"model_type": "opt", **TEXT, "ffn_dim": 32, "word_embed_proj_dim": 32}
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=reader, text_config=text, num_query_tokens=4, image_token_index=tiny.IMAGE
    )
    tokenizer = byte_tokenizer(320, {0: "<pad>", tiny.IMAGE: "<image>"}, pad=0, context=256)
    processor = transformers.Blip2Processor(
        transformers.BlipImageProcessorPil(size=SIDE), tokenizer, num_query_tokens=4
    )
    return transformers.Blip2ForConditionalGeneration(config), processor


def git():
    config = transformers.GitConfig(vision_config=VISION, **{**TEXT, "eos_token_id": 2})
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SIDE)
    tokenizer = byte_tokenizer(320, {0: "<pad>"}, pad=0, context=256)
    return transformers.GitForCausalLM(config), transformers.GitProcessor(images, tokenizer)


@pytest.mark.parametrize(("make", "image_tokens"), [(mllama, 1), (blip_2, 4), (git, 0)])
def test_families_that_place_images_in_ways_of_their_own(make, image_tokens):
    torch.manual_seed(0)
    model, processor = make()
    model.eval().generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ready = Loaded(make.__name__, model, processor, processor.tokenizer, "local", True)
    inputs = make_inputs(ready, prompt_tokens=9, image_size=(40, 30), batch=2, new_tokens=3)
    assert (inputs.text_tokens, inputs.image_tokens) == (9, image_tokens)
    with laptime.StageTimer(model) as timer:
        model.generate(**inputs.kwargs, max_new_tokens=3, do_sample=False)
    assert timer.last.stages.vision_ms > 0
    assert (timer.last.batch, timer.last.output_tokens) == (2, 3)
