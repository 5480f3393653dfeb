"""Configurations that do not load: every problem, at its exact place."""

import os
from pathlib import Path

import pytest
from voxgate_server.config import ConfigError, check, load_config


class TestPlaces:
    def test_all_at_once(self, refusals) -> None:
        found = refusals(
            """\
            model_list:
              - model_name: whisper
                litellm_params:
                  model: whisper-1
                  timeout: soon
                  rpm: -1
              - litellm_params:
                  model: azure/x
                  api_base: ftp://host
                  api_version: 2024.5
              - 7
            router_settings:
              fallbacks: {a: [b]}
              timeout: true
            general_settings:
              master_key: [1]
            voxgate:
              listen: {grpc_port: 70000}
              limits:
                max_audio_bytes: 25XB
                drain_seconds: -3
              tls:
                certificate: nope.pem
              local: {workers: 1.5}
            """
        )
        starts = [
            'gw.yaml:5:16: model_list.0.litellm_params.timeout: must be a number (found "soon"). Seconds one attempt',
            "gw.yaml:6:12: model_list.0.litellm_params.rpm: must be at least 0 (found -1). ",
            "gw.yaml:7:5: model_list.1.model_name: is required. ",
            "gw.yaml:9:17: model_list.1.litellm_params.api_base: must be a URL such as https://host/v1 ",
            "gw.yaml:10:20: model_list.1.litellm_params.api_version: must be text; put it in quotes (found 2024.5). ",
            "gw.yaml:11:5: model_list.2: must be a map (lines of the form `key: value`) (found a single value). ",
            "gw.yaml:13:14: router_settings.fallbacks: must be a list (lines that begin with `- `) (found a map). ",
            "gw.yaml:14:12: router_settings.timeout: must be a number (found true). ",
            "gw.yaml:16:15: general_settings.master_key: must be text (found a list). ",
            "gw.yaml:18:23: voxgate.listen.grpc_port: must be at most 65,535 (found 70000). TCP port of the gRPC ",
            "gw.yaml:20:22: voxgate.limits.max_audio_bytes: must be a size in bytes: ",
            "gw.yaml:21:20: voxgate.limits.drain_seconds: must be at least 0 (found -3). ",
            "gw.yaml:23:5: voxgate.tls: must have both certificate and private_key, or neither",
            'gw.yaml:23:18: voxgate.tls.certificate: no such file ("nope.pem"), seen from this file',
            "gw.yaml:24:20: voxgate.local.workers: must be a whole number (found 1.5). ",
        ]
        assert [line[: len(start)] for line, start in zip(found, starts, strict=True)] == starts

    def test_one_of_a_few_words(self, refusals) -> None:
        (found,) = refusals("voxgate: {empty_transcript: retry}")
        assert found.startswith("gw.yaml:1:29: voxgate.empty_transcript: must be")
        assert "'accept' or 'fallback'" in found

    def test_duplicate_keys_with_the_rest(self, refusals) -> None:
        assert refusals(
            """\
            model_list: []
            voxgate:
              limits: {drain_seconds: 1,
                       drain_seconds: 2}
              debug: {allow_raw_payloads: perhaps}
            model_list: []
            """
        ) == [
            'gw.yaml:4:12: duplicate key "drain_seconds", first given in line 3',
            (
                'gw.yaml:5:31: voxgate.debug.allow_raw_payloads: must be true or false (found "perhaps").'
                " Callers may ask for the raw request to and answer of the provider. Default false."
            ),
            'gw.yaml:6:1: duplicate key "model_list", first given in line 1',
        ]

    def test_columns_count_characters(self, refusals) -> None:
        (line,) = refusals('voxgate: {listen: {"ключ": "é", grpc_port: x}}\n')
        assert line.startswith("gw.yaml:1:44: voxgate.listen.grpc_port: must be a whole number")

    def test_variables_that_are_needed(self, refusals) -> None:
        assert refusals(
            """\
            model_list:
              - {model_name: a, litellm_params: {model: os.environ/MODEL}}
            general_settings:
              master_key: os.environ/MASTER
            voxgate: {tls: {certificate: os.environ/CERT, private_key: os.environ/PEM}}
            """,
            {"PEM": "", "UNRELATED": "x"},
        ) == [
            (
                'gw.yaml:2:45: model_list.0.litellm_params.model: the variable "MODEL" is not set;'
                " set it, or write the value"
            ),
            'gw.yaml:4:15: general_settings.master_key: the variable "MASTER" is not set; set it, or write the value',
            'gw.yaml:5:30: voxgate.tls.certificate: the variable "CERT" is not set; set it, or write the value',
            'gw.yaml:5:60: voxgate.tls.private_key: the variable "PEM" is not set; set it, or write the value',
        ]

    def test_credentials(self, refusals) -> None:
        assert refusals(
            """\
            credential_list:
              - {credential_name: europe, credential_values: {}}
              - {credential_name: europe}
              - {credential_values: {}}
            model_list:
              - {model_name: a, litellm_params: {model: openai/x, litellm_credential_name: eurpe}}
            """
        ) == [
            "gw.yaml:3:23: credential_list.1.credential_name: a second credential of this name",
            "gw.yaml:4:5: credential_list.2.credential_name: is required, as text",
            (
                "gw.yaml:6:80: model_list.0.litellm_params.litellm_credential_name: no entry of credential_list"
                ' has this name; did you mean "europe"?'
            ),
        ]

    def test_two_deployments_with_one_id(self, refusals) -> None:
        assert refusals(
            """\
            model_list:
              - {model_name: a, litellm_params: {model: openai/x}, model_info: {id: one}}
              - {model_name: a, litellm_params: {model: openai/y}, model_info: {id: one}}
            """
        ) == ["gw.yaml:3:73: model_list.1.model_info.id: the deployment at gw.yaml:2:73 has the same id"]

    @pytest.mark.parametrize(
        "url",
        [
            "host/v1",
            "https://",
            "https://u:p@h/",
            "https://h/?a=b",
            "https://h/#f",
            "https://h:99999/",
            "http://[::1",
            "''",
        ],
    )
    def test_addresses(self, refusals, url: str) -> None:
        (line,) = refusals(f'model_list: [{{model_name: a, litellm_params: {{model: openai/x, api_base: "{url}"}}}}]')
        assert line.startswith("gw.yaml:1:74: model_list.0.litellm_params.api_base: must")


class TestCircles:
    def test_fallbacks(self, refusals) -> None:
        assert refusals(
            """\
            model_list: []
            router_settings:
              fallbacks:
                - a: [b]
                - b: [d, c]
                - c:
                    - a
                - e: [e]
            """
        ) == [
            'gw.yaml:7:11: fallbacks: a group would be its own fallback: "a" → "b" → "c" → "a"',
            'gw.yaml:8:11: fallbacks: a group would be its own fallback: "e" → "e"',
        ]

    def test_aliases(self, refusals) -> None:
        assert refusals(
            """\
            model_list: []
            router_settings:
              model_group_alias: {a: b, b: {model: a}, c: c}
            """
        ) == [
            'gw.yaml:3:40: router_settings.model_group_alias: the alias leads back to itself: "a" → "b" → "a"',
            'gw.yaml:3:47: router_settings.model_group_alias: the alias leads back to itself: "c" → "c"',
        ]

    def test_fallback_by_way_of_an_alias(self, refusals) -> None:
        assert refusals(
            """\
            model_list: [{model_name: a, litellm_params: {model: openai/x}}]
            router_settings: {model_group_alias: {b: a}}
            litellm_settings: {fallbacks: [{a: [b]}]}
            """
        ) == ['gw.yaml:3:37: fallbacks: a group would be its own fallback: "a" → "a"']

    def test_the_default_may_name_any_group(self, load) -> None:
        loaded = load(
            "model_list: [{model_name: a, litellm_params: {model: openai/x}}]\n"
            "router_settings: {default_fallbacks: [a]}\n"
        )
        assert loaded.config.fallbacks == {"*": ("a",)}

    def test_a_long_chain_is_no_circle(self, load) -> None:
        rules = ", ".join(f"{{g{i}: [g{i + 1}]}}" for i in range(5000))
        assert len(load(f"model_list: []\nrouter_settings: {{fallbacks: [{rules}]}}").config.fallbacks) == 5000


class TestIncludes:
    def test_circles_and_missing_files(self, write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        write("include:\n  - ../gw.yaml\n  - nowhere.yaml\nvoxgate: {listen: {rest_port: x}}\n", "parts/b.yaml")
        write("include: [parts/b.yaml, 7, parts]\nmodel_list: []\n")
        with pytest.raises(ConfigError) as caught:
            load_config("gw.yaml", {})
        assert str(caught.value).splitlines() == [
            "gw.yaml:1:25: include: must be a list of file names",
            'gw.yaml:1:28: "parts": a directory, not a file',
            'parts/b.yaml:2:5: "parts/../gw.yaml": includes itself in a circle',
            'parts/b.yaml:3:5: "parts/nowhere.yaml": cannot be read: No such file or directory',
            (
                'parts/b.yaml:4:31: voxgate.listen.rest_port: must be a whole number (found "x"). TCP port of the REST'
                " listener, 0 for any free one. Default 4000."
            ),
        ]

    def test_too_many(self, write) -> None:
        write("{}\n", "part.yaml")
        path = write("include: [" + "part.yaml, " * 150 + "]\n")
        with pytest.raises(ConfigError, match="more than 100 files"):
            load_config(path, {})


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a:\n  \xff\xfe: 1\n", "2:3: not UTF-8; save the file as UTF-8"),
            (b"\xef\xbb\xbfa:\n  b\xff: 1\n", "2:4: not UTF-8; save the file as UTF-8"),
            ("a: 1\n".encode("utf-16"), "1:1: encoded as UTF-16; save it as UTF-8"),
            (b"a: 1\r\nb: \x07\r\n", "2:4: the control character U+0007; remove it"),
            (b"a:\n\tb: 1\n", "2:1: a tab in the indentation; YAML is indented with spaces"),
            (b"a:\n  b: 1\n \t c: 1\n", "3:2: a tab in the indentation; YAML is indented with spaces"),
            (b"- a\n- b\n", "1:1: a configuration is a map with keys such as model_list, this is a list"),
            (b"just words\n", "1:1: a configuration is a map with keys such as model_list, this is a single value"),
            (b"a: b: c\n", "1:5: a colon where none may stand; indent the line like its neighbours"),
            (b"a: 1\nb\n", "2:1: a key without its colon; write `key: value`"),
            (b"a: 'b\n", "1:4: a quotation mark is opened here and never closed"),
            (b"a: @b\n", "1:4: a value cannot begin with '@'; quote it"),
            (b"a: *b\n", "1:4: an alias (`*…`) without its anchor"),
            (b"a: &a [*a]\n", "1:8: the alias stands inside its own anchor"),
            (b"a: !!python/object:os.system x\n", "1:4: a YAML tag (`!…`) has no meaning here"),
            (b"? [a]\n: 1\n", "1:3: a key has to be text, not a map or a list"),
            (b"a: 1\n---\nb: 1\n", "2:1: a second document begins here"),
            (b"a: {<<: 1}\n", "1:9: `<<` takes a map"),
            (b"a: " + b"[" * 100_000, "1:67: nested deeper than 64 levels"),
            (b"- " * 100_000, "1:129: nested deeper than 64 levels"),
            (b"a: [" + b"x," * 200_001 + b"]", "more than 200,000 values"),
            (b"#" * (4 * 1024 * 1024 + 1), "1:1: larger than 4 MiB, the most a configuration may have"),
        ],
    )
    def test_what_is_not_a_configuration(self, tmp_path: Path, content: bytes, expected: str) -> None:
        path = tmp_path / "gw.yaml"
        path.write_bytes(content)
        for read in (load_config, check):
            with pytest.raises(ConfigError) as caught:
                read(path)
            assert str(caught.value).startswith(f"{path}:")
            assert expected in str(caught.value)

    def test_aliases_count_at_their_full_size(self, write) -> None:
        bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
            for before, name in zip("abcdefghi", "bcdefghij", strict=True)
        )
        with pytest.raises(ConfigError, match=r":6:\d+: more than 200,000 values, aliases counted at their full size"):
            load_config(write(bomb), {})

    def test_aliases_count_at_their_full_depth(self, write) -> None:
        deep = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}}}\n" for i in range(1, 100))
        with pytest.raises(ConfigError, match="nested deeper than 64 levels"):
            load_config(write(deep), {})

    def test_credentials_count_for_each_deployment(self, write) -> None:
        values = ", ".join(f"k{i}: 1" for i in range(1000))
        models = "\n".join(
            "- {model_name: a, litellm_params: {litellm_credential_name: c, model: openai/x}}" for _ in range(300)
        )
        text = f"credential_list: [{{credential_name: c, credential_values: {{{values}}}}}]\nmodel_list:\n{models}\n"
        with pytest.raises(ConfigError, match="more than 200,000 values with those of its credentials"):
            load_config(write(text), {})

    def test_what_is_not_a_file(self, tmp_path: Path) -> None:
        fifo = tmp_path / "pipe"
        os.mkfifo(fifo)
        for path, reason in (
            (tmp_path, "a directory, not a file"),
            (tmp_path / "none.yaml", "cannot be read: No such file or directory"),
            (fifo, "not a regular file"),
            ("bad\0name", "cannot be read: not a possible file name"),
        ):
            with pytest.raises(ConfigError) as caught:
                load_config(path, {})
            assert str(caught.value) == f"{path}:1:1: {reason}"

    def test_many_wrong_entries_stay_cheap(self, write) -> None:
        with pytest.raises(ConfigError) as caught:
            load_config(write("model_list:\n" + "- 1\n" * 20_000), {})
        assert len(caught.value.problems) == 20_000
        assert caught.value.problems[-1].place.line == 20_001
