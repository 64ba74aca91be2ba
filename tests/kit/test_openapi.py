"""The description of the API: valid, complete, and shown with nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.kit.openapi import PATH_PARAMETER

APP = Path(__file__).parents[2] / "app"
VENDOR = APP / "static" / "vendor"
IMPLIED_METHODS = {"HEAD", "OPTIONS"}


@pytest.fixture
def document(anonymous):
    return anonymous.get("/api/v1/openapi.json").json


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


class TestShowOpenapi:
    def test_is_valid(self, document):
        assert document["openapi"] == "3.1.0"
        OpenAPIV31SpecValidator(document).validate()

    def test_covers_every_route_and_nothing_else(self, document, app):
        served = {
            (PATH_PARAMETER.sub(r"{\g<name>}", str(rule)), method.lower())
            for rule in app.url_map.iter_rules()
            if rule.endpoint != "static"
            for method in rule.methods - IMPLIED_METHODS
        }

        assert {(path, method) for path, method, _ in operations(document)} == served

    def test_names_every_path_parameter(self, document):
        for path, method, operation in operations(document):
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), (method, path)

    def test_refers_only_to_what_it_holds(self, document):
        text = json.dumps(document)
        known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

        assert set(re.findall(r'"\$ref": "([^"]+)"', text)) <= known

    def test_describes_each_problem_as_one(self, document):
        for path, method, operation in operations(document):
            for status, answer in operation["responses"].items():
                if status >= "400" and "application/json" not in answer.get("content", {}):
                    assert list(answer["content"]) == ["application/problem+json"], (method, path)

    def test_asks_for_a_credential_unless_the_route_is_public(self, document):
        for path, method, operation in operations(document):
            assert operation["security"] in ([], [{"bearer": []}])
            assert ("401" in operation["responses"]) >= bool(operation["security"]), (method, path)

    def test_gives_every_operation_a_name_of_its_own_and_a_summary(self, document):
        names = [operation["operationId"] for *_, operation in operations(document)]

        assert len(names) == len(set(names))
        assert all(operation["summary"] for *_, operation in operations(document))

    def test_offers_no_null_in_a_query(self, document):
        for path, method, operation in operations(document):
            for parameter in operation["parameters"]:
                schema = parameter["schema"]
                assert {"type": "null"} not in schema.get("anyOf", []), (method, path)
                assert schema.get("default", 0) is not None, (method, path)


class Assets(HTMLParser):
    """What a page loads, runs and styles by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._within: str | None = None

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        self._within = tag
        self.loaded += [value for name in ("src", "href") if (value := known.get(name))]
        self.inline += [
            f"{tag}.{name}" for name in known if name.startswith("on") or name == "style"
        ]

    def handle_data(self, data):
        if self._within in {"script", "style"} and data.strip():
            self.inline.append(f"<{self._within}>")

    def handle_endtag(self, tag):
        self._within = None


class TestShowDocs:
    def test_loads_only_what_we_serve_and_runs_nothing_inline(self, anonymous):
        assets = Assets()
        assets.feed(anonymous.get("/docs").text)

        assert assets.inline == []
        assert len(assets.loaded) == 4
        for url in assets.loaded:
            assert url.startswith("/")
            assert not url.startswith("//")
            with anonymous.get(url) as answer:
                assert answer.status_code == 200, url

    def test_is_written_without_outside_addresses(self):
        for path in (APP / "kit" / "templates" / "docs.html", APP / "static" / "docs.js"):
            assert not re.search(r"https?:|//\w", path.read_text()), path

    def test_allows_the_page_no_more_than_it_needs(self, anonymous):
        policy = anonymous.get("/docs").headers["Content-Security-Policy"]

        assert "unsafe" not in policy
        assert "http" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


class TestVendoredFiles:
    def test_are_those_that_were_reviewed(self):
        packages = json.loads((VENDOR / "vendor.json").read_text())

        found = {
            folder.name: {
                path.name: "sha384-"
                + base64.b64encode(hashlib.sha384(path.read_bytes()).digest()).decode()
                for path in folder.iterdir()
            }
            for folder in VENDOR.iterdir()
            if folder.is_dir()
        }
        assert found == {name: package["files"] for name, package in packages.items()}

    def test_name_their_licence(self):
        for name, package in json.loads((VENDOR / "vendor.json").read_text()).items():
            assert package["licence"], name
            assert "LICENSE" in package["files"], name
