use serde_json::{Value, json};

use super::*;

/// A small valid spec with `patch` laid over it.
fn spec(patch: &Value) -> WorkloadSpec {
    let mut whole = json!({"name": "web", "image": "nginx"});
    for (key, value) in patch.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).expect("right types")
}

fn ports(ports: Value) -> Value {
    json!({ "ports": ports })
}

fn health(patch: Value) -> Value {
    let mut check = json!({"port": 80});
    for (key, value) in patch.as_object().expect("an object") {
        check[key] = value.clone();
    }
    json!({ "healthCheck": check })
}

fn mount(source: &str, target: &str) -> Value {
    json!({"mounts": [{"source": source, "target": target}]})
}

fn env_from(file: &str) -> Value {
    json!({"envFrom": [{"file": file}]})
}

#[test]
fn what_may_not_be_is_refused_by_name() {
    let many = |n: usize| (0..n).map(|n| format!("{n}")).collect::<Vec<_>>();
    let variables =
        |n: usize| (0..n).map(|n| (format!("V{n}"), json!(""))).collect::<serde_json::Map<_, _>>();
    let port = |n: usize| json!({"containerPort": n + 1});
    let big = "x".repeat(MAX_STRING + 1);
    // What is laid over a good spec, the field that is named, words of the sentence.
    let cases: Vec<(Value, &str, &[&str])> = vec![
        (json!({"name": ""}), "name", &["is \"\"", "must not be empty"]),
        (json!({"name": "Web"}), "name", &["is \"Web\"", "lower-case letters"]),
        (json!({"name": "my_app"}), "name", &["lower-case letters a-z, digits and '-'"]),
        (json!({"name": "-web"}), "name", &["start and end with a letter or digit"]),
        (json!({"name": "a.b"}), "name", &["\"a.b\""]),
        (json!({"name": "../etc"}), "name", &["\"../etc\""]),
        (json!({"name": "a".repeat(64)}), "name", &["at most 63"]),
        (json!({"name": "wéb"}), "name", &["\"wéb\""]),
        (json!({"id": "other"}), "id", &["\"other\"", "same as `name`", "\"web\""]),
        (json!({"replicas": 100_001}), "replicas", &["100001", "0 to 100000"]),
        (json!({"image": ""}), "image", &["is \"\"", "empty", "nginx:1.27"]),
        (json!({"image": "Nginx"}), "image", &["\"Nginx\"", "upper-case"]),
        (json!({"image": "nginx:"}), "image", &["tag"]),
        (json!({"image": "nginx@sha256:12"}), "image", &["digest", "64"]),
        (json!({"image": "https://r.io/nginx"}), "image", &["a scheme"]),
        (json!({"image": "r:x/nginx"}), "image", &["no host[:port]"]),
        (json!({"command": ["", "x"]}), "command[0]", &["empty", "program"]),
        (json!({"command": ["a", "b\0c"]}), "command[1]", &["NUL", "b\\0c"]),
        (json!({"args": ["\0"]}), "args[0]", &["NUL"]),
        (json!({"args": many(1_001)}), "args", &["1001 entries", "at most 1000"]),
        (json!({"command": many(1_001)}), "command", &["at most 1000"]),
        (json!({"args": [big]}), "args[0]", &["131072 bytes", "at most 131071"]),
        (json!({"env": {"": "x"}}), "env", &["at least one character"]),
        (json!({"env": {"A=B": "x"}}), "env.A=B", &["\"A=B\"", "'='"]),
        (json!({"env": {"A B": "x"}}), "env.A B", &["without spaces"]),
        (json!({"env": {"A\0": "x"}}), "env.A\\0", &["printable ASCII"]),
        (json!({"env": {"A": "x\0"}}), "env.A", &["NUL"]),
        (json!({"env": {"A": big}}), "env.A", &["131074 bytes"]),
        (json!({"env": {"KUBE_LITE_NODE": "x"}}), "env.KUBE_LITE_NODE", &["KUBE_LITE_", "set by"]),
        (json!({"env": variables(1_001)}), "env", &["1001 entries"]),
        (ports(json!([{"containerPort": 0}])), "ports[0].containerPort", &["is 0", "1 to 65535"]),
        (
            ports(json!([{"containerPort": 80}, {"containerPort": 80, "hostPort": 1}])),
            "ports[1].containerPort",
            &["80/tcp", "second time", "only once"],
        ),
        (
            ports(json!([
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 81, "hostPort": 8080}
            ])),
            "ports[1].hostPort",
            &["8080/tcp", "one container port only"],
        ),
        (
            ports(json!([{"containerPort": 80, "fixed": true}])),
            "ports[0].fixed",
            &["`hostPort` is 0", "which port"],
        ),
        (ports((0..101).map(port).collect()), "ports", &["101 entries", "at most 100"]),
        (health(json!({"port": 0})), "healthCheck.port", &["is 0", "1 to 65535"]),
        (
            health(json!({"path": "healthz"})),
            "healthCheck.path",
            &["\"healthz\"", "starts with '/'"],
        ),
        (health(json!({"path": ""})), "healthCheck.path", &["starts with '/'"]),
        (health(json!({"path": "/a b"})), "healthCheck.path", &["without spaces", "%20"]),
        (health(json!({"path": "/\r\nX: y"})), "healthCheck.path", &["/\\r\\nX: y"]),
        (health(json!({"path": format!("/{big}")})), "healthCheck.path", &["at most 1024"]),
        (health(json!({"intervalSeconds": 0})), "healthCheck.intervalSeconds", &["1 to 3600"]),
        (health(json!({"intervalSeconds": 3601})), "healthCheck.intervalSeconds", &["is 3601"]),
        (health(json!({"timeoutSeconds": 0})), "healthCheck.timeoutSeconds", &["1 to 300"]),
        (health(json!({"timeoutSeconds": 301})), "healthCheck.timeoutSeconds", &["is 301"]),
        (health(json!({"failureThreshold": 0})), "healthCheck.failureThreshold", &["1 to 100"]),
        (health(json!({"startupSeconds": 0})), "healthCheck.startupSeconds", &["1 to 3600"]),
        (json!({"stopGracePeriodSeconds": 3601}), "stopGracePeriodSeconds", &["0 to 3600"]),
        (json!({"minReadySeconds": 3601}), "minReadySeconds", &["0 to 3600"]),
        (
            json!({"strategy": {"maxSurge": 0, "maxUnavailable": 0}}),
            "strategy.maxUnavailable",
            &["so is `maxSurge`", "never begin"],
        ),
        (
            json!({"strategy": {"maxSurge": "0%", "maxUnavailable": "0%"}}),
            "strategy.maxUnavailable",
            &["so is `maxSurge`"],
        ),
        (json!({"strategy": {"maxSurge": 100_001}}), "strategy.maxSurge", &["0 to 100000"]),
        (json!({"strategy": {"drainSeconds": 3601}}), "strategy.drainSeconds", &["0 to 3600"]),
        (
            json!({"strategy": {"progressDeadlineSeconds": 0}}),
            "strategy.progressDeadlineSeconds",
            &["1 to 86400"],
        ),
        (
            json!({"minReadySeconds": 90}),
            "strategy.progressDeadlineSeconds",
            &["is 60", "above 90, `minReadySeconds`"],
        ),
        (json!({"resources": {"memory": "5Mi"}}), "resources.memory", &["is 5Mi", "6Mi to 1024Ti"]),
        (json!({"resources": {"memory": 0}}), "resources.memory", &["is 0", "from 6Mi"]),
        (json!({"resources": {"memory": "1025Ti"}}), "resources.memory", &["is 1025Ti"]),
        (json!({"resources": {"cpus": 0.009}}), "resources.cpus", &["is 0.009", "0.01 to 1000"]),
        (json!({"resources": {"cpus": 1001}}), "resources.cpus", &["is 1001"]),
        (json!({"resources": {"pids": 0}}), "resources.pids", &["is 0", "1 to 4194304"]),
        (json!({"logs": {"maxSize": "1k"}}), "logs.maxSize", &["is 1k", "16Ki to 1Ti"]),
        (json!({"logs": {"maxFiles": 0}}), "logs.maxFiles", &["1 to 100"]),
        (json!({"logs": {"maxFiles": 101}}), "logs.maxFiles", &["is 101"]),
        (mount("data", "/data"), "mounts[0].source", &["\"data\"", "of the node", "with '/'"]),
        (mount("", "/data"), "mounts[0].source", &["is \"\""]),
        (mount("/srv/../etc", "/data"), "mounts[0].source", &["\"/srv/../etc\"", "'..'"]),
        (mount("/srv/.", "/data"), "mounts[0].source", &["without '.'"]),
        (mount("/srv\0", "/data"), "mounts[0].source", &["control characters"]),
        (mount(&big, "/data"), "mounts[0].source", &["131072 bytes", "at most 4095"]),
        (mount("/srv", "data"), "mounts[0].target", &["\"data\"", "with '/'"]),
        (mount("/srv", "/data/.."), "mounts[0].target", &["'..'"]),
        (mount("/srv", "//"), "mounts[0].target", &["below it"]),
        (
            json!({"mounts": [
                {"source": "/a", "target": "/data"}, {"source": "/b", "target": "//data/"}
            ]}),
            "mounts[1].target",
            &["\"//data/\" for the second time"],
        ),
        (
            json!({"mounts": vec![json!({"source": "/a", "target": "/b"}); 101]}),
            "mounts",
            &["101 entries"],
        ),
        (env_from(""), "envFrom[0].file", &["is \"\"", "--env-dir"]),
        (env_from("../passwd"), "envFrom[0].file", &["\"../passwd\"", "without a directory"]),
        (env_from("a/b"), "envFrom[0].file", &["without a directory"]),
        (env_from(".."), "envFrom[0].file", &["not beginning with '.'"]),
        (env_from(&"a".repeat(256)), "envFrom[0].file", &["at most 255"]),
    ];
    assert!(cases.len() >= 40);
    let mut failed = Vec::new();
    for (patch, field, words) in &cases {
        let error = match validate(&spec(patch)) {
            Err(error) => error,
            Ok(()) => panic!("{patch} should be refused"),
        };
        let fits = error.status == 400
            && error.reason == "InvalidField"
            && error.field.as_deref() == Some(field)
            && error.error.len() < 500
            && words.iter().all(|word| error.error.contains(word));
        if !fits {
            failed.push((error, words));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_may_be_is_taken() {
    for patch in [
        json!({}),
        json!({"id": "web", "replicas": 0}),
        json!({"replicas": 100_000}),
        json!({"name": "a".repeat(63)}),
        ports(json!([
            {"containerPort": 53},
            {"containerPort": 53, "protocol": "udp"},
            {"containerPort": 80, "hostPort": 8080, "fixed": true},
            {"containerPort": 81, "hostPort": 8080, "protocol": "udp"}
        ])),
        health(json!({"path": "/healthz?full=1&x=%20"})),
        json!({"env": {"a.b-c": "ü = 1\n", "HTTP_PROXY": ""}, "args": ["", "--x=\n"]}),
        json!({"strategy": {"maxSurge": 0}}),
        json!({"strategy": {"maxSurge": 0, "maxUnavailable": 1}}),
        json!({"strategy": {"maxUnavailable": 0}}),
        json!({"minReadySeconds": 90, "strategy": {"progressDeadlineSeconds": 91}}),
        json!({"resources": {}, "logs": {}, "mounts": [], "envFrom": []}),
        json!({"resources": {"memory": "6Mi", "cpus": 0.01, "pids": 1}}),
        json!({"resources": {"memory": 6_291_456, "cpus": 1000, "pids": 4_194_304}}),
        json!({"logs": {"maxSize": "16Ki", "maxFiles": 1}}),
        json!({"mounts": [
            {"source": "/srv/a b:c", "target": "/data", "readOnly": true},
            {"source": "/srv/..data/", "target": "/data/more"}
        ]}),
        json!({"envFrom": [{"file": "db.env"}, {"file": "9-A_b"}]}),
    ] {
        assert_eq!(validate(&spec(&patch)), Ok(()), "{patch}");
    }
}

#[test]
fn the_whole_is_limited_too() {
    let half = "x".repeat(MAX_TEMPLATE / 2);
    let error = validate(&spec(&json!({"env": {"A": half, "B": half}}))).unwrap_err();
    assert!(error.error.contains("at most 131072"), "{}", error.error);
}

#[test]
fn ports_that_are_not_as_asked_are_told() {
    let asked = spec(&ports(json!([
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 81},
        {"containerPort": 82, "hostPort": 8082, "fixed": true}
    ])));
    assert_eq!(port_warnings(&asked, 1), Vec::<String>::new());
    assert_eq!(
        port_warnings(&asked, 3),
        [
            "Host port 8080/tcp cannot be shared: each of the 3 replicas gets a port that Docker \
             picks; find them with `kube-lite ctl discover web`.",
            "Host port 8082/tcp is fixed, so at most one of the 3 replicas runs per Docker daemon; \
             the rest wait."
        ]
    );
}
