"""What the fuzzer has to know of Headgate beside its document, and checks of its own."""

import json

import schemathesis

#: Seconds that a request may wait in line here. The bounds of the document are still met, and refused beyond.
LONGEST_WAIT = 0.05
NDJSON = "application/x-ndjson"

#: What the document says in words, for JSON Schema has none for it.
ONLY_IN_WORDS = (
    "at most 16 names",
    "leave `hold` out",
    "is among `names` too",
    "put these among `names`",
    "names in all",
    "a limit never moves",
    "nothing is taken by rate",
    "there is no such zone",
    "only for periods of",
    "have no calendar",
    "has no one length",
    "starts on",
    "on every day",
    "has at most",
    "by a window or by",
    "there is one page",
    "only with a `slotDecayPerSecond`",
)


def first_line(response, *args, **kwargs):
    """Reads a stream that does not end by itself to the end of its first line, and leaves."""
    if not response.headers.get("Content-Type", "").startswith(NDJSON):
        return
    content = b""
    for part in response.iter_content(65_536):
        content += part
        if b"\n" in content.lstrip():
            break
    response._content = content.lstrip().split(b"\n")[0] + b"\n"
    response._content_consumed = True
    response.close()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps waits short, asks for a quarter of the acquires as a stream, and looks at the first line of who watches."""
    if case.operation.definition.raw.get("operationId") == "inspectLive":
        # It is called before the rest is read.
        kwargs["hooks"] = {"response": first_line}
        return
    if case.operation.definition.raw.get("operationId") != "acquire" or not isinstance(case.body, dict):
        return
    body = case.body
    streams = len(json.dumps(body, default=str)) % 4 == 0
    if streams:
        case.headers["Accept"] = NDJSON
    wait = body.get("waitSeconds", 0)
    is_number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
    if (is_number and LONGEST_WAIT < wait <= 31_536_000) or (streams and "waitSeconds" not in body):
        body["waitSeconds"] = LONGEST_WAIT
    if body.get("hold") is True:
        # A stream that holds does not end by itself; test/process sees to those.
        body["hold"] = False


def events_of(response):
    return [json.loads(line) for line in response.content.decode().splitlines() if line.strip()]


@schemathesis.deserializer(NDJSON)
def lines(context, response):
    """The last event stands for the stream. What is wrong with the others is said by a check: an exception here ends the run as if well."""
    events = events_of(response)
    return events[-1] if events else None


@schemathesis.check
def streams_are_events(context, response, case):
    """Each line is an event, in the order in which they may come."""
    if not response.headers.get("content-type", [""])[0].startswith(NDJSON):
        return
    kinds = [event["event"] for event in events_of(response)]
    assert kinds, "a stream without a line"
    if case.operation.definition.raw.get("operationId") == "inspectLive":
        assert kinds in (["limits"], ["limit"]), f"who watches hears {kinds} first"
        return
    assert kinds[-1] in ("granted", "denied"), f"a stream that ended with {kinds[-1]}"
    assert set(kinds[:-1]) <= {"queued", "heartbeat"}, f"a stream of {kinds}"


@schemathesis.check
def valid_is_never_called_invalid(context, response, case):
    """A request that the document allows is never answered with `invalid`."""
    generation = case.meta.generation if case.meta else None
    if generation is None or not generation.mode.is_positive or response.status_code != 422:
        return
    problem = response.json()
    if problem["code"] != "invalid" or any(words in problem["detail"] for words in ONLY_IN_WORDS):
        return
    raise AssertionError(f"A valid request was called invalid: {problem['detail']}")


@schemathesis.check
def refusals_are_problems(context, response, case):
    """Every refusal carries its own status and a code, in words, and shows nothing of the inside."""
    if response.status_code < 400 or case.method == "HEAD":
        return
    problem = response.json()
    assert problem["status"] == response.status_code, f"a problem of {problem['status']} as {response.status_code}"
    assert problem["detail"] and problem["title"], "a problem without words"
    assert ".ts:" not in response.text and "node_modules" not in response.text, "a stack that was shown"
