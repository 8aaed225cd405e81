use super::*;
use crate::model::WorkloadSpec;
use crate::model::view::ScaleRequest;
use crate::model::wire::HeartbeatRequest;

fn refused(text: &str) -> ApiError {
    let error = from_people::<WorkloadSpec>(text.as_bytes()).expect_err(text);
    assert_eq!(error.status, 400);
    error
}

/// What was sent, the field that is named, and words of the sentence.
type Case = (&'static str, Option<&'static str>, &'static [&'static str]);

const CASES: &[Case] = &[
    // Not JSON.
    ("", None, &["empty"]),
    (" \n\t ", None, &["empty"]),
    ("{", None, &["line 1, column 1", "middle of an object"]),
    ("{\n  \"name\": \"web\",\n}", None, &["line 3, column 1", "comma after the last"]),
    ("{\"name\" \"web\"}", None, &["line 1, column 9", "expected `:`", "near"]),
    ("{name: \"web\"}", None, &["column 2", "double quotes"]),
    ("{\"name\": 'web'}", None, &["column 10", "a value is expected"]),
    ("{\"name\": \"web", None, &["middle of a string"]),
    ("{} {}", None, &["column 4", "after the end"]),
    ("{\"replicas\": 1e999}", None, &["too large"]),
    ("name: web\nimage: nginx\n", None, &["line 1, column 2"]),
    // Not an object.
    ("[]", None, &["an array", "must be a JSON object"]),
    ("null", None, &["null"]),
    ("\"web\"", None, &["the string \"web\""]),
    ("3", None, &["is 3"]),
    // Missing.
    ("{}", Some("name"), &["`name` is missing"]),
    ("{\"name\":\"web\"}", Some("image"), &["`image` is missing"]),
    (
        "{\"name\":\"web\",\"image\":\"a\",\"ports\":[{\"containerPort\":1},{}]}",
        Some("ports[1].containerPort"),
        &["`ports[1].containerPort` is missing"],
    ),
    (
        "{\"name\":\"web\",\"image\":\"a\",\"healthCheck\":{}}",
        Some("healthCheck.port"),
        &["missing"],
    ),
    // Wrong types.
    ("{\"name\":5}", Some("name"), &["is 5", "write \"5\", in quotes"]),
    ("{\"name\":null}", Some("name"), &["is null", "a string"]),
    ("{\"replicas\":\"3\"}", Some("replicas"), &["the string \"3\"", "write 3, without quotes"]),
    ("{\"replicas\":\"many\"}", Some("replicas"), &["whole number from 0 to 100000"]),
    ("{\"replicas\":-1}", Some("replicas"), &["is -1", "whole number from 0"]),
    ("{\"replicas\":1.5}", Some("replicas"), &["is 1.5", "whole number"]),
    ("{\"replicas\":4294967296}", Some("replicas"), &["is 4294967296", "100000"]),
    ("{\"replicas\":99999999999999999999}", Some("replicas"), &["whole number"]),
    ("{\"ports\":[{\"containerPort\":65536}]}", Some("ports[0].containerPort"), &["0 to 65535"]),
    ("{\"ports\":[{\"containerPort\":-80}]}", Some("ports[0].containerPort"), &["is -80"]),
    ("{\"ports\":{\"containerPort\":80}}", Some("ports"), &["an object", "an array, in [ ]"]),
    ("{\"ports\":[80]}", Some("ports[0]"), &["is 80", "an object, in { }"]),
    (
        "{\"ports\":[{\"containerPort\":80,\"fixed\":\"yes\"}]}",
        Some("ports[0].fixed"),
        &["true or false"],
    ),
    ("{\"args\":\"-v\"}", Some("args"), &["the string \"-v\"", "an array"]),
    ("{\"args\":null}", Some("args"), &["is null", "an array"]),
    ("{\"args\":[\"-v\",1]}", Some("args[1]"), &["is 1", "write \"1\", in quotes"]),
    ("{\"env\":{\"PORT\":8080}}", Some("env.PORT"), &["is 8080", "write \"8080\", in quotes"]),
    ("{\"env\":[\"A=1\"]}", Some("env"), &["an array", "an object of strings"]),
    ("{\"healthCheck\":\"/\"}", Some("healthCheck"), &["the string \"/\"", "an object"]),
    ("{\"strategy\":{\"maxSurge\":\"a lot\"}}", Some("strategy.maxSurge"), &["percentage"]),
    ("{\"strategy\":{\"maxSurge\":\"101%\"}}", Some("strategy.maxSurge"), &["\"101%\"", "100%"]),
    // Words.
    (
        "{\"restartPolicy\":\"Always\"}",
        Some("restartPolicy"),
        &[
            "the string \"Always\"",
            "\"always\", \"onFailure\" or \"never\"",
            "did you mean \"always\"?",
        ],
    ),
    ("{\"restartPolicy\":5}", Some("restartPolicy"), &["is 5", "\"onFailure\""]),
    ("{\"pullPolicy\":\"sometimes\"}", Some("pullPolicy"), &["\"ifNotPresent\""]),
    (
        "{\"ports\":[{\"containerPort\":1,\"protocol\":\"sctp\"}]}",
        Some("ports[0].protocol"),
        &["\"tcp\" or \"udp\""],
    ),
    // Unknown fields.
    (
        "{\"name\":\"web\",\"image\":\"a\",\"replica\":3}",
        Some("replica"),
        &["did you mean `replicas`?"],
    ),
    ("{\"nmae\":\"web\",\"image\":\"a\"}", Some("nmae"), &["did you mean `name`?"]),
    ("{\"restart_policy\":\"never\"}", Some("restart_policy"), &["`restartPolicy`"]),
    (
        "{\"name\":\"web\",\"image\":\"a\",\"ports\":[{\"containerPort\":1,\"hotPort\":2}]}",
        Some("ports[0].hotPort"),
        &["did you mean `hostPort`?"],
    ),
    (
        "{\"healthCheck\":{\"port\":1,\"interval\":5}}",
        Some("healthCheck.interval"),
        &["`intervalSeconds`"],
    ),
    (
        "{\"kind\":\"Deployment\",\"x\":1}",
        Some("kind"),
        &["known here are", "`image`", "Also unknown: `x`"],
    ),
    // Limits.
    ("{\"resources\":{\"memory\":\"256m\"}}", Some("resources.memory"), &["\"256m\"", "Mi, Gi"]),
    ("{\"resources\":{\"memory\":1.5}}", Some("resources.memory"), &["is 1.5", "whole number"]),
    ("{\"resources\":{\"cpus\":\"0.5\"}}", Some("resources.cpus"), &["without quotes: 0.5"]),
    ("{\"resources\":{\"cpus\":0.12345}}", Some("resources.cpus"), &["three decimals"]),
    ("{\"resources\":{\"pids\":\"many\"}}", Some("resources.pids"), &["whole number"]),
    ("{\"resources\":\"1Gi\"}", Some("resources"), &["an object, in { }"]),
    ("{\"resources\":{\"mem\":1}}", Some("resources.mem"), &["did you mean `memory`?"]),
    ("{\"resources\":{\"cpu\":1}}", Some("resources.cpu"), &["did you mean `cpus`?"]),
    ("{\"resource\":{}}", Some("resource"), &["did you mean `resources`?"]),
    (
        "{\"resources\":{\"limits\":{\"memory\":1}}}",
        Some("resources.limits"),
        &["known here are `memory`, `cpus`, `pids`"],
    ),
    ("{\"logs\":{\"max-size\":\"10M\"}}", Some("logs.max-size"), &["did you mean `maxSize`?"]),
    ("{\"logs\":{\"maxFile\":3}}", Some("logs.maxFile"), &["did you mean `maxFiles`?"]),
    ("{\"mounts\":[\"/a:/b\"]}", Some("mounts[0]"), &["\"/a:/b\"", "an object, in { }"]),
    (
        "{\"name\":\"a\",\"image\":\"a\",\"mounts\":[{\"source\":\"/a\"}]}",
        Some("mounts[0].target"),
        &["missing"],
    ),
    (
        "{\"mounts\":[{\"source\":\"/a\",\"target\":\"/b\",\"readonly\":true}]}",
        Some("mounts[0].readonly"),
        &["did you mean `readOnly`?"],
    ),
    ("{\"volumes\":[]}", Some("volumes"), &["`mounts`"]),
    ("{\"envFrom\":\"db\"}", Some("envFrom"), &["an array, in [ ]"]),
    ("{\"envFrom\":[{\"secretRef\":\"db\"}]}", Some("envFrom[0].secretRef"), &["`file`"]),
    // Twice.
    ("{\"name\":\"a\",\n\"name\":\"b\"}", Some("name"), &["given twice", "line 2"]),
    ("{\"env\":{\"A\":\"1\",\"A\":\"2\"}}", Some("env.A"), &["given twice"]),
    (
        "{\"ports\":[{\"containerPort\":1,\"containerPort\":2}]}",
        Some("ports[0].containerPort"),
        &["given twice"],
    ),
    // Arrays that serde would take for objects.
    ("{\"name\":\"web\",\"image\":\"a\",\"ports\":[[80]]}", Some("ports[0]"), &["an object"]),
    ("{\"name\":\"web\",\"image\":\"a\",\"strategy\":[1]}", Some("strategy"), &["an object"]),
    ("{\"name\":\"web\",\"image\":\"a\",\"resources\":[1]}", Some("resources"), &["an object"]),
];

#[test]
fn what_people_get_wrong_is_explained() {
    let mut failed = Vec::new();
    for (text, field, words) in CASES {
        let error = refused(text);
        if error.field.as_deref() != *field || words.iter().any(|w| !error.error.contains(w)) {
            failed.push((text, error, words));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_is_right_is_read() {
    let text = r#"{"name": "web", "image": "nginx", "replicas": 3, "env": {"A": "1"},
        "ports": [{"containerPort": 80}], "strategy": {"maxSurge": "25%"}}"#;
    let spec: WorkloadSpec = from_people(text.as_bytes()).unwrap();
    assert_eq!((spec.name.as_str(), spec.replicas, spec.ports.len()), ("web", Some(3), 1));
    let scale: ScaleRequest = from_people(b"{\"replicas\": 0}").unwrap();
    assert_eq!(scale.replicas, 0);
    let limited: WorkloadSpec = from_people(
        br#"{"name": "web", "image": "nginx", "resources": {"memory": "1024Mi", "cpus": 0.5},
        "logs": {"maxSize": 50000}, "mounts": [{"source": "/a", "target": "/b", "readOnly": true}],
        "envFrom": [{"file": "db"}]}"#,
    )
    .unwrap();
    let shown = serde_json::to_value(&limited).unwrap();
    assert_eq!(shown["resources"], serde_json::json!({"memory": "1Gi", "cpus": 0.5}));
    let again: WorkloadSpec = from_people(&serde_json::to_vec(&limited).unwrap()).unwrap();
    assert_eq!((again.template(), again == limited), (limited.template(), true));
    // What is shown can be sent back.
    let again: WorkloadSpec = from_people(&serde_json::to_vec(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
}

#[test]
fn bytes_that_are_no_text_are_located() {
    let error = from_people::<WorkloadSpec>(b"{\n\"name\": \"\xff\"}").unwrap_err();
    assert!(error.error.contains("0xff at line 2, byte 10"), "{}", error.error);
}

#[test]
fn foreign_text_stays_short_and_tame() {
    let long = "x".repeat(100_000);
    for text in [
        format!("{{\"{long}\":1}}"),
        format!("{{\"name\":\"web\",\"image\":\"a\",\"restartPolicy\":\"{long}\"}}"),
        format!("{{\"replicas\":\"{long}\"}}"),
        format!("{{\"name\" {long}"),
        "[".repeat(100_000),
        format!("{{\"env\":{{\"{long}\":1}}}}"),
    ] {
        let error = refused(&text);
        assert!(error.error.len() < 600, "{}", error.error.len());
    }
    let error = refused("{\"\\u001b[31m\\n\":1}");
    assert!(!error.error.contains(|c: char| c.is_control()), "{:?}", error.error);
}

#[test]
fn machines_may_know_more_or_less() {
    let text = r#"{"nodeId":"n1","incarnation":1,"epoch":1,"seq":1,"synced":true,"news":[1],
        "docker":{"state":"ok","more":1},"containers":[]}"#;
    let beat: HeartbeatRequest = from_machine("heartbeat", text.as_bytes()).unwrap();
    assert_eq!(beat.node_id.as_str(), "n1");
    let error = from_machine::<HeartbeatRequest>("heartbeat", b"{\"nodeId\":1}").unwrap_err();
    assert_eq!(error.status, 400);
    assert!(error.error.contains("no heartbeat: nodeId"), "{}", error.error);
}

#[test]
fn what_machines_send_forges_no_line_of_a_log() {
    let sent = b"{\"nodeId\":\"n\",\"docker\":{\"a\\u001b[31m\\nb\":}";
    let error = from_machine::<crate::model::wire::RegisterRequest>("registration", sent);
    let said = error.unwrap_err().error;
    assert!(!said.contains(char::is_control), "{said:?}");
    let error = from_machine::<std::collections::BTreeMap<String, u8>>("x", b"{\"a\\u001b\":\"\"}");
    let said = error.unwrap_err().error;
    assert!(said.contains("a\\u{1b}") && !said.contains(char::is_control), "{said:?}");
}
