"""A chat template is a program of others: it neither leaves its sandbox nor runs or grows without end."""

import time
import tracemalloc

import pytest

from data_pipeline.prompts import template_sandbox
from data_pipeline.prompts.template_sandbox import ConversationRefusedError, SandboxedTemplate

VARIABLES = {"messages": [{"role": "user", "content": " a "}], "x": ["x"] * 50}


def run(source):
    return SandboxedTemplate(source, "model.json").render(VARIABLES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}\n  {{ m.content | trim }}{{ m['role'] }}\n{% endfor %}", "  auser\n"),
        ("  {% if x %}\n  a\n  {% endif %}\n  {{ 1 }}", "  a\n  1"),
        ("{% for y in x %}{% if loop.index > 2 %}{% break %}{% endif %}{{ loop.last }}{% endfor %}", "FalseFalse"),
        ("{% for y in x %}{{ loop.length ~ loop.revindex }}{% break %}{% endfor %}", "5050"),
        ("{% for y in x if not loop %}{% endfor %}{{ {'é': '<'} | tojson }}", '{"é": "<"}'),
        ("{% set ns = namespace(n=1) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "7"),
        ("{% generation %}{{ 1 }}{% endgeneration %}{{ dict(a=2).a }}{{ '%s-%03d' % ('a', 7) }}", "12a-007"),
        ("{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "3210"),
        ("{% for y in [[1, [2]], [3]] recursive %}{{ loop(y) if y is iterable else y }}{% endfor %}", "123"),
        ("{{ 'a-b'.split('-') | join('+') | replace('+', ' and ') | upper }}", "A AND B"),
        ("{{ '{} of {:>4}'.format('a', 2) }}{{ 'x' * 3 }}{{ 2 ** 5 }}", "a of    2xxx32"),
        ("{{ raise_exception.__globals__ }}{{ ''|attr('__class__') }}{{ '{0.__class__}'.format(1) }}", ""),
        ("{{ undefined_name }}", ""),
    ],
)
def test_what_templates_do(source, expected):
    assert run(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ (messages | map(attribute='__class__') | list)[0].mro() }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace({'_x': 1}) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
    ],
)
def test_there_is_no_way_out(source):
    with pytest.raises(ValueError, match=r"model.json (tries to leave its sandbox|failed)"):
        run(source)


def test_files_cannot_be_read():
    with pytest.raises(ValueError, match="failed"):
        run("{% include '/etc/passwd' %}")


GROWTH = "{% set ns = namespace(s=START) %}{% for i in range(60) %}{% set ns.s = STEP %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in x %}{% for b in x %}{% for c in x %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ range(10 ** 9) | list }}",
        "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 'x' | center(10 ** 10) }}",
        "{{ 'x'.ljust(10 ** 10) }}",
        "{{ 'x'.zfill(width=10 ** 10) if false else 'x'.zfill(10 ** 10) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:>99999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 10 ** 10) }}",
        "{{ '{a:>{w}}'.format_map({'a': 1, 'w': 10 ** 10}) }}",
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000).join(['y'] * 100000) }}",
        "{{ ('\n' * 100000) | indent(100000) }}",
        "{{ {'a': x} | tojson(indent=10 ** 10) * 10 ** 9 }}",
        "{{ lipsum(n=10 ** 9) }}",
        GROWTH.replace("START", "'xxx'").replace("STEP", "ns.s ~ ns.s"),
        GROWTH.replace("START", "'xxx'").replace("STEP", "ns.s + ns.s"),
        GROWTH.replace("START", "'xxx'").replace("STEP", "'%s%s' % (ns.s, ns.s)"),
        GROWTH.replace("START", "'xxx'").replace("STEP", "[ns.s, ns.s] | join"),
        GROWTH.replace("START", "'xxx'").replace("STEP", "''.join([ns.s, ns.s])"),
        GROWTH.replace("START", "[1]").replace("STEP", "ns.s + ns.s"),
        GROWTH.replace("START", "99999").replace("STEP", "ns.s * ns.s"),
    ],
)
def test_no_template_runs_or_grows_without_end(source, monkeypatch):
    monkeypatch.setattr(template_sandbox, "MAX_SIZE", 2_000_000)
    monkeypatch.setattr(template_sandbox, "MAX_STEPS", 3_000)
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(ValueError, match=r"model.json failed \(.*\). Check the roles"):
            run(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - start < 5
    assert peak < 100_000_000  # bytes


def test_the_time_of_a_run_is_bounded(monkeypatch):
    monkeypatch.setattr(template_sandbox, "MAX_SECONDS", 0.0)
    with pytest.raises(ValueError, match="runs longer than 200000 steps or 0 seconds"):
        run("{% for y in x %}{% endfor %}")


def test_every_run_has_its_own_bounds(monkeypatch):
    monkeypatch.setattr(template_sandbox, "MAX_STEPS", 60)
    template = SandboxedTemplate("{% for y in x %}{{ y }}{% endfor %}", "model.json")
    assert [template.render(VARIABLES) for _ in range(5)] == ["x" * 50] * 5


def test_errors_of_a_template():
    with pytest.raises(ValueError, match=r"model.json is no valid Jinja: .*\(line 2\). Mend it, or fetch it again"):
        SandboxedTemplate("a\n{% for x in %}", "model.json")
    with pytest.raises(ConversationRefusedError, match="model.json refuses the conversation: no system"):
        run("{{ raise_exception('no system') }}")
    for source in ("{{ 1 / 0 }}", "{{ a.b.c }}", "{{ [] | first | length + 'x' }}", "{{ none() }}"):
        with pytest.raises(ValueError, match="model.json failed") as caught:
            run(source)
        assert not isinstance(caught.value, ConversationRefusedError)
