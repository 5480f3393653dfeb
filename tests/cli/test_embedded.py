"""The command line with no configuration at all: real speech, recognised on this machine."""

import json
import signal

from tests.cli.commands import OTHER_WAV, SPEECH, Terminal, ended, start, voxgate


async def test_speech_becomes_text() -> None:
    """`agent-incorrect.wav` says: Login incorrect. Please enter your agent number followed by the pound key."""
    done = await voxgate("transcribe", OTHER_WAV)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().endswith("number followed by the pound key\n")
    assert done.out.count(b"\n") == 1


async def test_words_with_times() -> None:
    options = ["--format", "verbose_json", "--timestamps", "word"]
    done = await voxgate("transcribe", *options, "-", stdin=OTHER_WAV.read_bytes())
    assert (done.code, done.err) == (0, "")
    answer = json.loads(done.out)
    assert [word["word"] for word in answer["words"]][-3:] == ["the", "pound", "key"]
    assert answer["words"][-1]["end"] <= answer["duration"]


async def test_models() -> None:
    [model] = json.loads((await voxgate("models", "--json")).out)
    assert (model["id"], model["provider"], model["languages"]) == ("pocketsphinx", "local", ["en"])
    assert "whisper-1" in model["aliases"]


async def test_ctrl_c_ends_the_recogniser_too() -> None:
    with Terminal() as terminal:
        process = await start("transcribe", SPEECH / "demo-congrats.wav", stderr=terminal.slave)
        # The recogniser's processes inherit standard error: its last user's end is the end of all of them.
        terminal.hang_up()
        async with ended(process):
            await terminal.shows("recognising")
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
            await terminal.left.wait()
    assert (process.returncode, out) == (130, b"")
    assert b"voxgate: interrupted" in terminal.written
    assert b"Traceback" not in terminal.written
