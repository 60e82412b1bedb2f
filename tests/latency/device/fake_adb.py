"""A phone for tests: started as ``adb``, it replays transcripts and keeps a scripted file system.

Everything it does is in the folder that ``FAKE_PHONE`` names: ``script.json`` (see ``DEFAULTS``),
``log`` (the commands it got, one a line) and ``root`` (what was pushed, as on the phone). It is
started some twenty times a test, so it imports little.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import sys
from pathlib import Path

TRANSCRIPTS = Path(__file__).parent / "transcripts"
MARK = "@classkinfy:"

DEFAULTS: dict[str, object] = {
    "devices": [["R5CT", "device"]],
    "getprop": "getprop.txt",
    "abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "thermal": [0],  # status of each reading; the last one stays; None: no such service
    "battery": "battery_usb.txt",
    "current": "-412000",  # None: not readable
    "clocks": {"0": 1593600, "1": 1593600, "2": 2342400, "3": 2342400},  # kHz; empty: no cpufreq
    "caps": {},  # by core, kHz of each reading; the last one stays
    "free_kib": 4 * 2**20,
    "push": None,  # the transcript of a push that fails, after half of the files
    "lost_after": None,  # the number of commands after which the phone is gone
    "damaged": None,  # the name of a file that does not arrive as it is
    "benchmark_model": ["benchmark_model_percentiles.txt"],  # each run's; the last one stays
    "perf_test": ["perf_test_vivo_x300.txt"],
    "answers_s": [],  # of perf_test, each answer's seconds, over and over
    "exit": 0,  # of both tools
    "pss_kb": 83210,
    "app": None,  # the results it writes, one a start; None: not installed
    "awake": True,
    "started": "am_start.txt",
}


class Phone:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "root"
        self.script = DEFAULTS | json.loads((home / "script.json").read_text())

    def take(self, name: str, values: list[object]) -> object:
        """The next of a list, the last one over and over."""
        counter = self.home / f"count-{name}"
        count = int(counter.read_text()) if counter.exists() else 0
        counter.write_text(str(count + 1))
        return values[min(count, len(values) - 1)]

    def lost(self) -> bool:
        log = (self.home / "log").read_text().splitlines()
        after = self.script["lost_after"]
        return after is not None and len(log) > after

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def push(self, local: Path, folder: str) -> int:
        import shutil

        target = self.path(folder) / local.name
        files = sorted(path for path in local.rglob("*") if path.is_file())
        for path in files if self.script["push"] is None else files[: len(files) // 2]:
            there = target / path.relative_to(local)
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, there)
            if path.name == self.script["damaged"]:
                there.write_bytes(path.read_bytes()[:-1])
        if self.script["push"] is not None:
            sys.stderr.write((TRANSCRIPTS / self.script["push"]).read_text())
            return 1
        sys.stdout.write(f"{local}: {len(files)} files pushed, 0 skipped.\n")
        return 0

    def shell(self, command: str) -> tuple[int, str]:
        if "--graph=" in command:
            return self.tool("benchmark_model", command)
        if "perf_test -e cpu " in command:
            return self.tool("perf_test", command)
        code, said = 0, ""
        for part in re.split(r"; | && ", command):
            code, text = self.simple(part)
            said += text
        return code, said

    def simple(self, command: str) -> tuple[int, str]:
        rules = (
            (r"getprop", self.getprop),
            (r"dumpsys thermalservice", self.thermal),
            (r"dumpsys battery", lambda: (0, transcript(self.script["battery"]))),
            (r"dumpsys power \| grep mWakefulness=", self.power),
            (r"grep -sH \. (.+)", self.grep),
            (r"df -k (\S+)", self.df),
            (r"rm -rf (\S+)", self.remove),
            (r"chmod -R (?:755|a\+rX) (.+)", self.chmod),
            (r"sha256sum (.+)", self.sha256sum),
            (r"pm path \S+", self.installed),
            (r"pidof \S+", lambda: (1, "")),
            (r"am force-stop \S+", lambda: (0, "")),
            (r"am start -W -n (.+)", self.start),
            (r"run-as \S+ cat files/(\S+) 2>/dev/null \|\| cat \S+ 2>/dev/null", self.result),
            (r"(?:run-as \S+ )?rm -f \S+", lambda: (0, "")),
        )
        for pattern, answer in rules:
            found = re.fullmatch(pattern, command, re.DOTALL)
            if found:
                return answer(*found.groups())
        return 127, f"/system/bin/sh: {command.split()[0]}: inaccessible or not found\n"

    def getprop(self) -> tuple[int, str]:
        text = transcript(self.script["getprop"])
        lists = rf"\1{self.script['abilist']}]"
        return 0, re.sub(r"(\[ro\.product\.cpu\.abilist\]: \[).*\]", lists, text)

    def thermal(self) -> tuple[int, str]:
        status = self.take("thermal", self.script["thermal"])
        if status is None:
            return 0, "Can't find service: thermalservice\n"
        return 0, transcript("thermalservice.txt").replace("Status: 0\n", f"Status: {status}\n")

    def power(self) -> tuple[int, str]:
        return 0, f"  mWakefulness={'Awake' if self.script['awake'] else 'Asleep'}\n"

    def grep(self, patterns: str) -> tuple[int, str]:
        """Every line of the files of /sys that a pattern names; others are passed over."""
        cpus = "/sys/devices/system/cpu"
        there = {f"{cpus}/online": "0-3"}
        if self.script["current"] is not None:
            there["/sys/class/power_supply/battery/current_now"] = self.script["current"]
        for core, khz in self.script["clocks"].items():
            caps = self.script["caps"].get(core)
            capped = caps and "scaling_max_freq" in patterns
            there[f"{cpus}/cpu{core}/cpufreq/cpuinfo_max_freq"] = khz
            there[f"{cpus}/cpu{core}/cpufreq/scaling_governor"] = "schedutil"
            there[f"{cpus}/cpu{core}/cpufreq/scaling_max_freq"] = (
                self.take(f"caps{core}", caps) if capped else khz
            )
        named = [p for p in there if any(fnmatch.fnmatch(p, q) for q in patterns.split())]
        return (0 if named else 2), "".join(f"{path}:{there[path]}\n" for path in named)

    def df(self, folder: str) -> tuple[int, str]:
        head = "Filesystem        1K-blocks    Used Available Use% Mounted on\n"
        return 0, f"{head}/dev/block/dm-52 113246208 5242880 {self.script['free_kib']}   5% /data\n"

    def remove(self, folder: str) -> tuple[int, str]:
        import shutil

        shutil.rmtree(self.path(folder), ignore_errors=True)
        return 0, ""

    def chmod(self, names: str) -> tuple[int, str]:
        missing = [name for name in names.split() if not self.path(name).exists()]
        return bool(missing), "".join(f"chmod: {n}: No such file or directory\n" for n in missing)

    def sha256sum(self, names: str) -> tuple[int, str]:
        lines = [f"{digest(self.path(name))}  {name}\n" for name in names.split()]
        return 0, "".join(lines)

    def installed(self) -> tuple[int, str]:
        if self.script["app"] is None:
            return 1, ""
        return 0, "package:/data/app/~~x==/org.classkinfy.demo-y==/base.apk\n"

    def start(self, arguments: str) -> tuple[int, str]:
        words = shlex.split(arguments)
        extras = {
            n: v
            for kind, n, v in zip(words, words[1:], words[2:], strict=False)
            if kind in ("--es", "--ei")
        }
        result = self.take("app", self.script["app"])
        if result is not None:
            assert (
                digest(self.path(extras["bundle"]) / "manifest.json") == extras["manifest_sha256"]
            )
            asked = {name: extras[name] for name in ("request", "manifest_sha256")}
            (self.home / f"benchmark-{extras['request']}.json").write_text(
                json.dumps({"app": "1.0", "runtime": "1.2.3", **asked, **result})
            )
        return 0, transcript(self.script["started"])

    def result(self, name: str) -> tuple[int, str]:
        path = self.home / name
        return (0, path.read_text()) if path.exists() else (1, "")

    def tool(self, name: str, line: str) -> tuple[int, str]:
        program = re.search(r"(/data/\S+/(?:benchmark_model|onnxruntime_perf_test)) -", line)
        model = re.search(r"(?:--graph=)?(/data/\S+\.(?:tflite|onnx))", line)
        for found in (program, model):
            if found is None or not self.path(found[1]).is_file():
                return 127, f"/system/bin/sh: {line}: No such file or directory\n"
        text = transcript(self.take(name, self.script[name]))
        code = self.script["exit"]
        answers = self.script["answers_s"]
        if not code and "&& cat " in line and answers:
            asked = re.search(r" -r (\d+) ", line)
            assert asked is not None
            rows = [answers[number % len(answers)] for number in range(int(asked[1]))]
            text += "".join(f"models,{s},271122432,11,{n}\n" for n, s in enumerate(rows))
        if "smaps_rollup" in line:
            text += f"\nPeak PSS: {self.script['pss_kb']} kB\n"
        return code, text


def transcript(name: str) -> str:
    return (TRANSCRIPTS / name).read_text()


def digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str]) -> int:
    phone = Phone(Path(os.environ["FAKE_PHONE"]))
    if arguments == ["devices"]:
        rows = "".join(f"{serial}\t{state}\n" for serial, state in phone.script["devices"])
        sys.stdout.write(f"List of devices attached\n{rows}\n")
        return 0
    assert arguments[0] == "-s"
    serial, verb, *rest = arguments[1:]
    with (phone.home / "log").open("a") as log:
        log.write(" ".join((verb, *rest)).replace("\n", " ") + "\n")
    if phone.lost():
        sys.stderr.write(f"adb: device '{serial}' not found\n")
        return 1
    if verb == "push":
        return phone.push(Path(rest[0]), rest[1])
    found = re.fullmatch(rf"\((.*)\) 2>&1; echo {MARK}\$\?", rest[0], re.DOTALL)
    assert found is not None, rest
    code, text = phone.shell(found[1])
    sys.stdout.write(f"{text}{MARK}{int(code)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
