"""A phone that cannot be used, or is lost on the way, is an error and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_phone import Phone

from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import (
    BundleError,
    ClasskinfyError,
    MissingDependencyError,
)
from classkinfy_export.latency.device.bench import bench_on_device
from classkinfy_export.latency.device.payload import Payload


def test_without_adb_it_says_how_to_get_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(MissingDependencyError, match=r"not on PATH: .*apt install adb"):
        bench_on_device(bundle)


@pytest.mark.parametrize(
    ("devices", "serial", "said"),
    [
        ([], None, r"no phone is connected: plug one in, with USB debugging"),
        (
            [["A1", "device"], ["B2", "offline"]],
            None,
            r"2 phones are connected: name one: A1 \(device\), B2 \(offline\)",
        ),
        ([["A1", "device"]], "B2", r"phone 'B2' is not connected: there is A1 \(device\)"),
        ([["A1", "unauthorized"]], None, r"phone A1 is unauthorized: unlock .* allow this"),
        ([["A1", "offline"]], "A1", r"phone A1 is offline: unplug it"),
        ([["A1", "recovery"]], None, r"phone A1 is recovery: start Android on it"),
        (
            [["A1", "no permissions (user in plugdev group; are your udev rules wrong?); see"]],
            None,
            r"phone A1 is no permissions: give your user the right",
        ),
    ],
)
def test_a_phone_that_cannot_be_used_is_an_error_that_says_what_to_do(
    bundle: Bundle, phone: Phone, devices: list[list[str]], serial: str | None, said: str
) -> None:
    phone.write(devices=devices)
    with pytest.raises(ClasskinfyError, match=said):
        bench_on_device(bundle, serial)
    assert phone.commands() == []


def test_of_two_phones_the_named_one_is_measured(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(devices=[["A1", "device"], ["B2", "device"]])
    report = bench_on_device(
        bundle, "B2", tools={"litert": tool("benchmark_model")}, threads=(1,), rounds=1
    )
    assert report.rows
    assert "B2" not in report.model_dump_json(), "a serial number tells whose phone it is"


@pytest.mark.parametrize("commands", [8, 11, 14])
def test_a_phone_that_disconnects_leaves_no_report(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], commands: int
) -> None:
    phone.write(lost_after=commands)
    tools = {"litert": tool("benchmark_model")}
    folder = f"/data/local/tmp/classkinfy-{bundle.sha256[:12]}"
    with pytest.raises(ClasskinfyError) as caught:
        bench_on_device(bundle, tools=tools, threads=(1,))
    assert "device 'R5CT' not found" in caught.value.message
    assert f"{folder} is still on the phone" in caught.value.hint
    assert phone.commands()[-1].startswith(f"shell (rm -rf {folder})"), "it was tried"
    phone.write()
    bench_on_device(bundle, tools=tools, threads=(1,), rounds=1)
    assert phone.left() == [], "the next run removes what was left"


def test_too_little_space_is_seen_before_anything_is_copied(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(free_kib=3)
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match=r"0\.0 MiB free: free some space on the phone"):
        bench_on_device(bundle, tools=tools)
    assert not any(line.startswith("push") for line in phone.commands())
    assert phone.runs() == []


def test_a_phone_that_fills_up_is_an_error_before_anything_runs(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(push="no_space.txt")
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match=r"No space left on device: free some space"):
        bench_on_device(bundle, tools=tools)
    assert phone.runs() == []
    assert phone.left() == [], "the half that was copied is removed"


def test_a_file_that_arrives_damaged_is_an_error_before_anything_runs(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    phone.write(damaged="grade_nv.tflite")
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match=r"models/grade_nv.tflite did not arrive"):
        bench_on_device(bundle, tools=tools)
    assert phone.runs() == []
    assert phone.left() == []


def test_a_command_that_never_ends_is_given_up(
    phone: Phone, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classkinfy_export.latency.device import adb

    connected = adb.Adb.connect()

    def hang(command: list[str], timeout_s: float) -> Any:
        raise adb.subprocess.TimeoutExpired(command, timeout_s)

    monkeypatch.setattr(adb, "_call", hang)
    with pytest.raises(ClasskinfyError, match=r"'true' on phone R5CT took more than 7 s: is it"):
        connected.shell("true", 7.0)


def test_only_the_models_that_are_measured_are_copied(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    phone.write(benchmark_model=["not_executable.txt"], exit=126)
    monkeypatch.setattr(Payload, "remove", lambda self: True)
    with pytest.raises(ClasskinfyError):
        bench_on_device(bundle, tools={"litert": tool("benchmark_model")}, threads=(1,))
    names = {path.name for path in phone.left()}
    assert names == {"stages.tflite", "grade_nv.tflite", "benchmark_model"}


def test_nothing_to_run_says_why(bundle: Bundle, phone: Phone) -> None:
    with pytest.raises(BundleError, match=r"nothing is left .*app: org.classkinfy.demo is not"):
        bench_on_device(bundle)
    with pytest.raises(BundleError, match=r"the bundle holds no fp16: it holds fp32"):
        bench_on_device(bundle, precisions=["fp16"])


def test_a_core_that_is_not_there_is_refused(
    bundle: Bundle, phone: Phone, tool: Callable[..., Path]
) -> None:
    tools = {"litert": tool("benchmark_model")}
    with pytest.raises(ClasskinfyError, match=r"MI 5s Plus has no core 9 that is on: .*0, 1, 2, 3"):
        bench_on_device(bundle, tools=tools, cores=[9])


@pytest.mark.parametrize("name", ["models/$(reboot).onnx", "models/a b.onnx", "a;b"])
def test_a_bundle_whose_names_a_shell_would_read_is_refused(name: str) -> None:
    for model in (
        SimpleNamespace(path=name, entries={}),
        SimpleNamespace(path="models/a.onnx", entries={"classify": name}),
    ):
        bundle = SimpleNamespace(
            sha256="0" * 64, path=Path("bundle"), manifest=SimpleNamespace(models=[model])
        )
        with pytest.raises(BundleError, match="is no name that a phone is given"):
            Payload(cast(Any, None), cast(Any, bundle))
