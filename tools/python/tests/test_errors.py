"""Every misuse has an error that says what is wrong, and what to do."""

import os
import pickle
import re
import signal
import subprocess
import sys

import pytest

import cliptext_encoder
from cliptext_encoder import Encoder, Pack, Plan, PlanError


def raises(error, message):
    return pytest.raises(error, match="^" + re.escape(message) + "$")


def test_files_that_are_not_there(tmp_path):
    missing = tmp_path / "sd15.plan"
    for open_file in (Encoder, Plan, Pack):
        with raises(FileNotFoundError, f"[Errno 2] No such file or directory: '{missing}'") as error:
            open_file(missing)
        assert error.value.filename == str(missing)
        with raises(IsADirectoryError, f"[Errno 21] Is a directory: '{tmp_path}'"):
            open_file(tmp_path)
    with raises(FileNotFoundError, f"[Errno 2] No such file or directory: '{missing}'"):
        Plan(missing, read=True)
    with raises(TypeError, "expected str, bytes or os.PathLike object, not int"):
        Plan(3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(one_tower, tmp_path):
    secret = tmp_path / "secret.plan"
    secret.write_bytes(one_tower.read_bytes())
    secret.chmod(0)
    with raises(PermissionError, f"[Errno 13] Permission denied: '{secret}'"):
        Plan(secret)


def test_plans_that_are_none(one_tower, tmp_path):
    good = one_tower.read_bytes()
    version = int.from_bytes(good[8:12], "little")
    cases = {
        b"": "the plan is cut short: copy or compile it again",
        b"%PDF-1.7 and more of it, as long as a header is" * 99: "this is not a cliptext plan (make one with `cliptext compile`)",
        good[:-1]: "the plan is cut short: copy or compile it again",
        good + b"\n": "something follows the end of the plan: copy or compile it again",
        good[:8] + (99).to_bytes(4, "little") + good[12:]: (
            f"the plan has format version 99, this build reads version {version}: compile it again"
        ),
    }
    path = tmp_path / "a.plan"
    for data, message in cases.items():
        path.write_bytes(data)
        for read in (False, True):
            with raises(PlanError, f"{path}: {message}") as error:
                Plan(path, read=read)
            assert isinstance(error.value, ValueError)
        with raises(PlanError, f"the plan's bytes: {message}"):
            Plan.from_bytes(data)


def test_a_damaged_plan_is_told_by_the_place(one_tower):
    data = bytearray(one_tower.read_bytes())
    data[-1] ^= 1
    with pytest.raises(PlanError, match="^the plan's bytes: the plan is damaged in the 64 KiB from byte [0-9]+: copy or compile it again$"):
        Plan.from_bytes(data)


@pytest.mark.skipif("CLIPTEXT_FOREIGN_PLAN" not in os.environ, reason="no plan for another kind of CPU was given")
def test_a_plan_for_another_kind_of_cpu():
    with pytest.raises(PlanError, match="does not read: .*: the plan was compiled with --target .*, compile it with --target"):
        Encoder(os.environ["CLIPTEXT_FOREIGN_PLAN"])


def test_arguments_that_do_not_do(one_tower, encoder):
    with raises(ValueError, "threads must be 1 or more, not 0"):
        Encoder(one_tower, threads=0)
    with pytest.raises(ValueError, match='^kernel "sse9": this build has no kernel of that name; this CPU runs .*scalar$'):
        Encoder(one_tower, kernel="sse9")
    with raises(ValueError, "read: the Plan is open already: Plan(path, read=True)"):
        Encoder(Plan(one_tower), read=True)
    with raises(TypeError, "prompt must be a str or a sequence of str, not bytes"):
        encoder.encode(b"a dog")
    with raises(TypeError, "prompt must be a str or a sequence of str, not int"):
        encoder.encode(7)
    with raises(TypeError, "prompt[1] must be a str, not NoneType"):
        encoder.encode(["a dog", None])
    with raises(TypeError, "negative[0] must be a str, not int"):
        encoder.encode("a dog", negative=[0])
    with raises(ValueError, "prompt is an empty sequence: give one text at least"):
        encoder.encode([])
    with raises(ValueError, "negative has 3 texts for 2 prompts: give one each, or one for all"):
        encoder.encode(["a", "b"], negative=["c", "d", "e"])
    with raises(ValueError, "pad=False: prompts of 3 and of 4 tokens don't fit one array: encode them one by one"):
        encoder.encode(["a", "a dog"], pad=False)


def test_texts_that_are_no_utf_8(encoder):
    for work in (encoder.encode, encoder.tokenize, lambda text: encoder.encode("a", negative=text)):
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            work("a \ud800 dog")


def test_pickles_are_refused(one_tower, encoder):
    with raises(TypeError, "an Encoder can't be pickled: give the other process the plan's path and make one there"):
        pickle.dumps(encoder)
    with raises(TypeError, "a Plan can't be pickled: give the other process its path; a mapped file is in memory once"):
        pickle.dumps(encoder.plan)
    result = pickle.loads(pickle.dumps(encoder.encode("a dog")))
    assert (result.prompt_embeds == encoder.encode("a dog").prompt_embeds).all()


def test_without_numpy_the_import_says_what_to_install():
    code = "import sys; sys.modules['numpy'] = None; import cliptext_encoder"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ImportError: cliptext_encoder needs NumPy: pip install numpy\n")


def test_a_plan_that_is_cut_while_it_is_mapped_ends_the_process_and_one_that_was_read_does_not(one_tower, tmp_path):
    code = (
        "import os, sys, cliptext_encoder\n"
        "e = cliptext_encoder.Encoder(sys.argv[1], read=bool(int(sys.argv[2])))\n"
        "before = e.encode('a dog').prompt_embeds\n"
        "os.truncate(sys.argv[1], 0)\n"
        "assert (e.encode('a dog').prompt_embeds == before).all()\n"
    )
    plan = tmp_path / "a.plan"
    for read, status in ((0, -signal.SIGBUS), (1, 0)):
        plan.write_bytes(one_tower.read_bytes())
        done = subprocess.run([sys.executable, "-c", code, str(plan), str(read)])
        assert done.returncode == status, read


def test_a_plan_out_of_a_pipe_is_read(one_tower, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'cat "$1" > "$2"', "sh", str(one_tower), str(pipe)]):
        assert Plan(pipe).width == Plan(one_tower).width


def test_the_version_is_the_distribution_s():
    from importlib.metadata import version

    assert cliptext_encoder.__version__ == version("cliptext-encoder")
