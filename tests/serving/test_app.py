"""The server's answers are predict's; what it refuses, and how; what it tells of itself."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disks import Disk, fill, remount
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError
from starlette.testclient import TestClient

from classkinfy_export import runtimes
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.errors import BundleError, ClasskinfyError
from classkinfy_export.runtimes.session import Prediction, Session
from classkinfy_export.serving.app import Limits
from classkinfy_export.serving.records import Records
from classkinfy_export.taxonomy import DISCLAIMER, PROXY_NOTICE

Serve = Callable[..., TestClient]
TIMED = {"timings_ms", "id"}


def form(*photos: bytes) -> dict[str, Any]:
    return {"files": [("image", ("photo", photo)) for photo in photos]}


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in TIMED}


@pytest.fixture
def photos(lesions: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in lesions[:6]]


@pytest.fixture
def expected(trunk_bundle: Path, photos: list[bytes]) -> list[dict[str, Any]]:
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        return [without_times(Session(engine).predict(photo).to_json()) for photo in photos]


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_is_predicts(
    serve: Serve, photos: list[bytes], expected: list[dict[str, Any]]
) -> None:
    client = serve(workers=2)
    for photo, wanted in zip(photos, expected, strict=True):
        response = client.post("/v1/predict", **form(photo))
        assert response.status_code == 200
        answer = response.json()
        assert without_times(answer) == wanted
        assert answer["disclaimer"] == DISCLAIMER
        assert answer["severity_notice"] == PROXY_NOTICE
        assert {"frame", "prepare", "screen", "classify"} <= answer["timings_ms"].keys()
    assert len({wanted["diagnosis"] for wanted in expected}) > 1


def test_a_runtime_that_one_thread_alone_runs_is_opened_for_each_worker(
    serve: Serve, photos: list[bytes], trunk_bundle: Path
) -> None:
    client = serve(workers=2, runtime="litert")
    with runtimes.get("litert").open(Bundle.open(trunk_bundle)) as engine:
        wanted = [without_times(Session(engine).predict(photo).to_json()) for photo in photos]
    given: dict[int, Any] = {}

    def ask(i: int) -> None:
        given[i] = without_times(client.post("/v1/predict", **form(photos[i])).json())

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(photos))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [given[i] for i in range(len(photos))] == wanted


def test_the_stream_tells_what_is_known_first(
    serve: Serve, photos: list[bytes], expected: list[dict[str, Any]]
) -> None:
    response = serve().post("/v1/predict/stream", **form(photos[0]))
    assert response.headers["content-type"].startswith("text/event-stream")
    (first, preliminary), (second, diagnosis), (third, answer) = events(response.text)
    assert (first, second, third) == ("preliminary", "diagnosis", "answer")
    assert without_times(answer) == expected[0]
    assert preliminary == {key: expected[0][key] for key in ("quality", "preliminary")}
    told = ("accepted", "reasons", "diagnosis", "confidence", "probabilities")
    assert diagnosis == {key: expected[0][key] for key in told}


def test_a_batch_answers_each_photo_and_one_that_is_none_spoils_no_other(
    serve: Serve, photos: list[bytes], expected: list[dict[str, Any]]
) -> None:
    response = serve().post("/v1/predict/batch", **form(photos[0], b"no photo", photos[1]))
    first, second, third = response.json()["answers"]
    assert without_times(first) == expected[0]
    assert second["error"] == "image is not an image that can be read"
    assert without_times(third) == expected[1]


@pytest.mark.parametrize("route", ["/v1/predict", "/v1/predict/stream"])
def test_what_is_no_photo_is_refused_with_what_to_do(
    serve: Serve, photos: list[bytes], route: str
) -> None:
    client = serve(limits=Limits(photo_bytes=100_000, batch=2))
    cut = photos[0][: len(photos[0]) // 2]
    for response, status, reason in (
        (client.post(route, **form(b"no photo")), 400, "not an image"),
        (client.post(route, **form(cut)), 400, "truncated or damaged"),
        (client.post(route, **form(bytes(100_001))), 413, "more than 100000 bytes"),
        (client.post(route, **form(bytes(400_000))), 413, "more than"),
        (client.post(route, content=photos[0]), 415, "content type none"),
        (client.post(route, data={"image": "text"}), 415, "urlencoded"),
        (client.post(route, files={"other": photos[0]}), 422, "no file 'image'"),
        (client.post(route, **form(photos[0], photos[1])), 400, "Too many files"),
        (
            client.post(
                route, content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"}
            ),
            400,
            "cannot be read",
        ),
    ):
        assert response.status_code == status, response.text
        assert reason in response.json()["error"]
        assert response.json()["hint"]


def test_a_body_that_hides_its_length_is_cut_off(serve: Serve) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while True:
            sent += 65536
            yield bytes(65536)

    client = serve(limits=Limits(photo_bytes=200_000))
    headers = {"content-type": "multipart/form-data; boundary=b"}
    # The test's client would read an endless body whole: a part of it stands for all.
    body = b"".join(chunk for chunk, _ in zip(endless(), range(20), strict=False))
    response = client.post("/v1/predict", content=body, headers=headers)
    assert response.status_code == 413


def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let no answer end before the event that is returned is set."""
    gate = threading.Event()
    predict = Session.predict

    def slow(self: Session, *arguments: Any) -> Prediction:
        assert gate.wait(30)
        return predict(self, *arguments)

    monkeypatch.setattr(Session, "predict", slow)
    return gate


def test_above_its_places_it_says_when_to_come_back(
    serve: Serve, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = held(monkeypatch)
    client = serve(workers=1, waiting=1)
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(client.post("/v1/predict", **form(photos[0])).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while client.get("/readyz").status_code == 200 and time.monotonic() < until:
        time.sleep(0.01)
    refused = client.post("/v1/predict", **form(photos[0]))
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200
    gate.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/predict", **form(photos[0])).status_code == 200


def test_an_answer_that_is_too_late_is_a_503_and_its_place_is_free_again(
    serve: Serve, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = held(monkeypatch)
    client = serve(workers=1, waiting=1, timeout_s=0.2)
    late = client.post("/v1/predict", **form(photos[0]))
    assert late.status_code == 503
    assert "no answer within 0.2 s" in late.json()["error"]
    assert late.headers["retry-after"]
    gate.set()
    monkeypatch.undo()
    assert client.post("/v1/predict", **form(photos[0])).status_code == 200


def test_numbers_that_are_none_are_an_error_and_no_answer(
    serve: Serve, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Session, *arguments: Any) -> Prediction:
        raise BundleError("NaN", hint="export again")

    monkeypatch.setattr(Session, "predict", failing)
    response = serve().post("/v1/predict", **form(photos[0]))
    assert (response.status_code, response.json()) == (
        500,
        {"error": "NaN", "hint": "export again"},
    )


def test_answers_are_on_record_and_photos_only_where_asked(
    serve: Serve, photos: list[bytes], expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    for images in (False, True):
        path = tmp_path / f"{images}.db"
        client = serve(records=Records(f"sqlite:///{path}", images=images))
        ids = [client.post("/v1/predict", **form(photo)).json()["id"] for photo in photos[:2]]
        with sqlite3.connect(path) as database:
            rows = database.execute("select id, bundle, result, image from predictions").fetchall()
        assert {row[0] for row in rows} == set(ids)
        for key, bundle, result, image in rows:
            i = ids.index(key)
            assert bundle == expected[i]["bundle"]
            assert without_times(json.loads(result)) == expected[i]
            assert image == (photos[i] if images else None)
        assert images or photos[0][:64] not in path.read_bytes()


def test_an_answer_that_cannot_be_kept_is_not_given(
    serve: Serve, photos: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "answers.db"
    client = serve(records=Records(f"sqlite:///{path}"))
    with sqlite3.connect(path) as database:
        database.execute("drop table predictions")
    response = client.post("/v1/predict", **form(photos[0]))
    assert response.status_code == 503
    assert "recorded" in response.json()["error"]
    streamed = events(client.post("/v1/predict/stream", **form(photos[0])).text)
    assert [name for name, _ in streamed] == ["preliminary", "diagnosis", "error"]
    assert streamed[-1][1] == response.json()


def test_what_is_read_only_refuses_answers_until_it_is_not(
    serve: Serve, photos: list[bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = os.geteuid() == 0  # whom no file's mode keeps from writing
    folder = request.getfixturevalue("disk")(256) if root else tmp_path
    path = folder / "answers.db"
    Records(f"sqlite:///{path}").close()
    path.chmod(0o444)
    if root:
        remount(folder, "ro")
    client = serve(records=Records(f"sqlite:///{path}"))
    response = client.post("/v1/predict", **form(photos[0]))
    assert response.status_code == 503
    assert "recorded" in response.json()["error"]
    if root:
        remount(folder, "rw")
    path.chmod(0o644)
    given = client.post("/v1/predict", **form(photos[0])).json()["id"]
    with sqlite3.connect(path) as database:
        assert database.execute("select id from predictions").fetchall() == [(given,)]


@pytest.mark.parametrize("reason", ["disk is full", "readonly database"])
def test_a_database_that_cannot_be_made_is_an_error(reason: str, disk: Disk) -> None:
    folder = disk(64)
    if "full" in reason:
        fill(folder, leave_kib=0)
    else:
        (folder / "answers.db").touch()
        remount(folder, "ro")
    with pytest.raises(ClasskinfyError, match=f"{reason}: .* where there is room to write"):
        Records(f"sqlite:///{folder / 'answers.db'}")


def test_an_error_of_the_database_does_not_have_the_answer(
    trunk_bundle: Path, photos: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "answers.db"
    records = Records(f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        database.execute("drop table predictions")
    with runtimes.get("onnxruntime").open(Bundle.open(trunk_bundle)) as engine:
        prediction = Session(engine).predict(photos[0])
    with pytest.raises(SQLAlchemyError) as told:
        records.add(prediction, photos[0])
    assert "no such table" in str(told.value)
    assert "accepted" not in str(told.value)
    assert prediction.bundle not in str(told.value)


def test_it_tells_what_answers_and_how_it_does(
    serve: Serve, photos: list[bytes], trunk_bundle: Path
) -> None:
    client = serve()
    about = client.get("/v1/bundle").json()
    assert about["bundle"] == Bundle.open(trunk_bundle).sha256
    assert about["disclaimer"] == DISCLAIMER
    diagnosis = client.post("/v1/predict", **form(photos[0])).json()["diagnosis"]
    client.post("/v1/predict", **form(b""))
    lines = client.get("/metrics").text.splitlines()
    assert 'classkinfy_requests_total{route="/v1/predict",status="200"} 1.0' in lines
    assert 'classkinfy_requests_total{route="/v1/predict",status="400"} 1.0' in lines
    assert f'classkinfy_answers_total{{diagnosis="{diagnosis}"}} 1.0' in lines
    assert 'classkinfy_stage_seconds_count{stage="classify"} 1.0' in lines
    assert "classkinfy_inside 0.0" in lines


def test_no_page_elsewhere_may_ask_unless_it_is_named(serve: Serve) -> None:
    origin = {"origin": "https://review.example"}
    assert "access-control-allow-origin" not in serve().get("/v1/bundle", headers=origin).headers
    named = serve(origins=("https://review.example",))
    headers = named.get("/v1/bundle", headers=origin).headers
    assert headers["access-control-allow-origin"] == "https://review.example"
    other = {"origin": "https://other.example"}
    assert named.post("/v1/predict", headers=other).status_code == 403
    assert named.post("/v1/predict", headers=origin).status_code == 415
    assert named.post("/v1/predict", headers={"origin": "http://testserver"}).status_code == 415
    assert "access-control-allow-origin" not in named.get("/v1/bundle", headers=other).headers


def test_by_another_name_it_does_not_answer(serve: Serve) -> None:
    client = serve(hosts=("testserver",))
    assert client.get("/healthz").status_code == 200
    assert client.get("/healthz", headers={"host": "rebound.example"}).status_code == 400


def test_whatever_goes_wrong_is_told_in_one_form(
    serve: Serve, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Session, *arguments: Any) -> Prediction:
        raise RuntimeError("a kernel's own")

    monkeypatch.setattr(Session, "predict", failing)
    client = serve(headers={"x-content-type-options": "nosniff"})
    response = client.post("/v1/predict", **form(photos[0]))
    assert response.status_code == 500
    assert response.json() == {"error": "no answer", "hint": "ask again later"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert client.get("/nowhere").json() == {"error": "Not Found", "hint": "see /openapi.json"}
    odd = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    body = b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\na\r\n--x--\r\n'
    assert client.post("/v1/predict", content=body, headers=odd).status_code == 400
    assert 'status="500"' in client.get("/metrics").text


def test_openapi_documents_every_route_with_an_example(serve: Serve) -> None:
    client = serve()
    document = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/predict/batch", "/v1/predict/stream"} <= document["paths"].keys()
    for path in ("/v1/predict", "/v1/predict/batch", "/v1/predict/stream"):
        post = document["paths"][path]["post"]
        assert "multipart/form-data" in post["requestBody"]["content"]
        assert {"400", "413", "503"} <= post["responses"].keys()
    example = document["components"]["schemas"]["Answer"]["examples"][0]
    answer = document["components"]["schemas"]["Answer"]["properties"]
    assert example.keys() == answer.keys()
    # What shows the document in a browser loads scripts from elsewhere.
    assert client.get("/docs").status_code == 404


def test_a_photo_of_a_bomb_is_refused_before_it_is_unpacked(serve: Serve) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    response = serve().post("/v1/predict", **form(bytes(data)))
    assert response.status_code == 400
    assert "million pixels" in response.json()["error"]
