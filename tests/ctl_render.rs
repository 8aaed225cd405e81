//! What the command line shows, letter by letter, and what it thinks of what it
//! sees while it waits.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube_lite::model::ContainerInstance;
use kube_lite::model::view::{
    DiscoverView, EventView, ExplainView, NodeView, RevisionView, WorkloadView,
};
use kube_lite::roles::ctl::evacuation;
use kube_lite::roles::ctl::progress::{self, Goal, Seen, Verdict};
use kube_lite::roles::ctl::render::{Look, event, lists, rollout, story};
use serde_json::{Value, json};

fn look() -> Look {
    let now: Timestamp = "2025-11-22T14:00:00Z".parse().expect("a time");
    Look::plain(now, TimeZone::UTC)
}

fn wide() -> Look {
    Look { wide: true, ..look() }
}

/// `base` with the fields of `change`.
fn with(mut base: Value, change: Value) -> Value {
    let fields = change.as_object().expect("an object").clone();
    base.as_object_mut().expect("an object").extend(fields);
    base
}

fn workload(change: Value) -> WorkloadView {
    let base = json!({
        "spec": {"name": "web", "image": "hello:1", "replicas": 3},
        "revision": 1, "desired": 3, "running": 3, "ready": 3, "pending": 0, "waiting": 0,
        "done": 0, "stopping": 0, "restarts": 0, "reasons": [], "rollout": null,
    });
    serde_json::from_value(with(base, change)).expect("a workload")
}

fn instance(id: &str, replica: u32, change: Value) -> ContainerInstance {
    let base = json!({
        "id": id, "containerId": "0123456789abcdef0123", "workloadId": "web", "replica": replica,
        "revision": 1, "nodeId": format!("node-{}", replica + 1), "image": "hello:1",
        "phase": "running", "health": "healthy", "ready": true, "restarts": 0,
        "ip": "172.17.0.2", "runningForMs": 65_000,
        "ports": [{"containerPort": 8080, "hostPort": 32768 + replica, "protocol": "tcp"}],
    });
    serde_json::from_value(with(base, change)).expect("an instance")
}

/// A workload's fields while it rolls from revision 1 to 2, or after it did.
fn rollout(state: &str, change: Value) -> Value {
    let base = json!({"from": 1, "to": 2, "state": state, "updated": 1, "total": 3});
    let revision = if state.starts_with("abort") { 1 } else { 2 };
    json!({"revision": revision, "rollout": with(base, change)})
}

/// Three instances in the middle of that.
fn in_transit() -> Vec<ContainerInstance> {
    let second = |phase: &str, ready: bool| {
        json!({"revision": 2, "image": "hello:2", "phase": phase, "ready": ready, "ports": [],
               "health": if ready { "healthy" } else { "starting" }})
    };
    vec![
        instance("web-r2-ddddd", 0, second("running", true)),
        instance("web-r1-bbbbb", 1, json!({})),
        instance("web-r2-eeeee", 1, second("running", false)),
        instance("web-r1-ccccc", 2, json!({})),
    ]
}

fn three() -> Vec<ContainerInstance> {
    let pulling = json!({
        "phase": "pulling", "health": "unknown", "ready": false, "containerId": "", "ports": [],
        "ip": null, "runningForMs": null, "reason": "Pulling", "message": "pulling hello:1",
    });
    let crashed = json!({
        "phase": "exited", "health": "unknown", "ready": false, "exitCode": 3, "restarts": 4,
        "ports": [], "ip": null, "runningForMs": 900, "reason": "Error",
        "message": "exited with code 3 after 0.9 s",
    });
    vec![
        instance("web-r1-ccccc", 2, crashed),
        instance("web-r1-bbbbb", 1, pulling),
        instance("web-r1-aaaaa", 0, json!({})),
    ]
}

fn backing_off() -> Value {
    json!([
        {"reason": "BackOff", "message": "exited with code 3 after 0.9 s", "replica": 2, "forMs": 4200},
        {"reason": "Pulling", "message": "pulling hello:1", "replica": 1, "instanceId": "web-r1-bbbbb"},
    ])
}

#[test]
fn workload_lists() {
    let short =
        json!({"running": 1, "ready": 1, "pending": 1, "waiting": 1, "reasons": backing_off()});
    let job = json!({
        "spec": {"name": "job", "image": "busybox", "restartPolicy": "never"},
        "desired": 1, "running": 0, "ready": 0, "done": 1,
    });
    let rolling = json!({
        "spec": {"name": "api", "image": "api:2"}, "restarts": 12, "revision": 2,
        "rollout": {"from": 1, "to": 2, "state": "rolling", "updated": 1, "total": 3},
    });
    let list = [workload(short), workload(job), workload(rolling)];
    assert_eq!(
        lists::workloads(&list, &look()),
        "\
WORKLOAD  READY  STATUS       RESTARTS  IMAGE    WHY
api       3/3    rolling 1/3        12  api:2    -
job       0/1    done                0  busybox  -
web       1/3    waiting             0  hello:1  BackOff: exited with code 3 after 0.9 s (+1 more)
"
    );
    assert_eq!(
        lists::workloads(&list[1..2], &wide()),
        "\
WORKLOAD  READY  STATUS  RESTARTS  REVISION  RUNNING  PENDING  WAITING  DONE  STOPPING  POLICY  IMAGE
job       0/1    done           0         1        0        0        0     1         0  never   busybox
"
    );
}

#[test]
fn workload_states() {
    for (change, wanted) in [
        (json!({}), "ready"),
        (json!({"ready": 2}), "starting"),
        (json!({"ready": 2, "done": 1}), "ready"),
        (json!({"ready": 0, "running": 0, "done": 3}), "done"),
        (json!({"ready": 2, "waiting": 1}), "waiting"),
        (json!({"desired": 0, "stopping": 2}), "stopping"),
        (json!({"desired": 0, "running": 0, "ready": 0}), "scaled to 0"),
        (rollout("rolling", json!({})), "rolling 1/3"),
        (rollout("paused", json!({})), "paused 1/3"),
        (rollout("aborting", json!({})), "aborting"),
        (rollout("aborted", json!({})), "ready"),
        (rollout("done", json!({})), "ready"),
    ] {
        assert_eq!(lists::workload_state(&workload(change.clone())).1, wanted, "{change}");
    }
}

#[test]
fn node_lists() {
    let node = |change| -> NodeView {
        let base = json!({
            "id": "node-1", "address": "127.0.0.1:8081", "status": "alive", "schedulable": true,
            "lastHeartbeatSecondsAgo": 1.26, "instances": 4, "version": "0.1.0",
            "docker": {"state": "ok", "forMs": 5000, "daemon": "d41d8cd98f00b204e9800998ecf8427e"},
        });
        serde_json::from_value(with(base, change)).expect("a node")
    };
    let list = [
        node(json!({"id": "node-3", "status": "dead", "lastHeartbeatSecondsAgo": 75.0,
                    "message": "not heard for 75 s"})),
        node(json!({"id": "node-2", "schedulable": false, "lastHeartbeatSecondsAgo": null,
                    "docker": {"state": "hung", "forMs": 61_000, "message": "no answer to a ping"}})),
        node(json!({})),
        node(json!({"id": "node-4", "schedulable": false, "draining": true,
                    "message": "being drained: 4 instance(s) still to move"})),
        node(json!({"id": "node-5", "schedulable": false, "draining": true, "instances": 0})),
    ];
    assert_eq!(
        lists::nodes(&list, &look()),
        "\
NODE    STATUS           INSTANCES  HEARD      DOCKER          ADDRESS         WHY
node-1  alive                    4  1s ago     ok              127.0.0.1:8081  -
node-2  alive, cordoned          4  never      hung for 1m01s  127.0.0.1:8081  no answer to a ping
node-3  dead                     4  1m15s ago  ok              127.0.0.1:8081  not heard for 75 s
node-4  alive, draining          4  1s ago     ok              127.0.0.1:8081  being drained: 4 instance(s) still to move
node-5  alive, drained           0  1s ago     ok              127.0.0.1:8081  -
"
    );
    assert_eq!(
        lists::nodes(&list[2..3], &wide()),
        "\
NODE    STATUS  INSTANCES  HEARD   DOCKER  ADDRESS         VERSION  DAEMON
node-1  alive           4  1s ago  ok      127.0.0.1:8081  0.1.0    d41d8cd98f00
"
    );
}

#[test]
fn instance_lists() {
    assert_eq!(
        lists::instances(&three(), Some("web"), &look()),
        "\
INSTANCE      NODE    STATE       HEALTH   READY  RESTARTS  UP     PORTS        WHY
web-r1-aaaaa  node-1  running     healthy  yes           0  1m05s  32768->8080  -
web-r1-bbbbb  node-2  pulling     -        no            0  -      -            pulling hello:1
web-r1-ccccc  node-3  exited (3)  -        no            4  0s     -            exited with code 3 after 0.9 s
"
    );
    assert_eq!(
        lists::instances(&three()[1..], Some("web"), &wide()),
        "\
INSTANCE      REPLICA  REVISION  NODE    STATE    HEALTH   READY  RESTARTS  UP     CONTAINER     IP          PORTS        IMAGE    REASON   MESSAGE
web-r1-aaaaa        0         1  node-1  running  healthy  yes           0  1m05s  0123456789ab  172.17.0.2  32768->8080  hello:1  -        -
web-r1-bbbbb        1         1  node-2  pulling  -        no            0  -      -             -           -            hello:1  Pulling  pulling hello:1
"
    );
}

#[test]
fn without_ages_nothing_changes_by_itself() {
    let still = Look { ages: false, ..look() };
    let older = instance("web-r1-aaaaa", 0, json!({"runningForMs": 99_000}));
    let younger = instance("web-r1-aaaaa", 0, json!({}));
    let page = |one: ContainerInstance, look: &Look| lists::instances(&[one], None, look);
    assert_eq!(page(older.clone(), &still), page(younger.clone(), &still));
    assert_ne!(page(older, &look()), page(younger, &look()));
}

#[test]
fn the_last_column_is_wrapped_where_it_fits_and_left_alone_where_it_does_not() {
    let list = three();
    let narrow = Look { width: Some(90), ..look() };
    assert_eq!(
        lists::instances(&list[..1], None, &narrow),
        "\
INSTANCE      NODE    STATE       HEALTH  READY  RESTARTS  UP  PORTS  WHY
web-r1-ccccc  node-3  exited (3)  -       no            4  0s  -      exited with code 3
                                                                      after 0.9 s
"
    );
    let tiny = Look { width: Some(60), ..look() };
    assert_eq!(
        lists::instances(&list[..1], None, &tiny),
        lists::instances(&list[..1], None, &look())
    );
}

#[test]
fn colours_never_change_the_words() {
    let color = Look { color: true, ..look() };
    let colored = lists::instances(&three(), None, &color);
    assert!(colored.contains("\x1b["), "{colored:?}");
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("the end of a colour code").1;
    }
    plain.push_str(rest);
    let trimmed: String = plain.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert_eq!(trimmed, lists::instances(&three(), None, &look()));
}

#[test]
fn empty_lists_say_what_to_do() {
    assert_eq!(
        lists::workloads(&[], &look()),
        "no workloads yet; try: kube-lite ctl deploy -f examples/hello.json\n"
    );
    assert!(
        lists::nodes(&[], &look()).starts_with("no nodes yet; start an agent: kube-lite agent")
    );
    assert_eq!(
        lists::instances(&[], Some("web"), &look()),
        "web has no instances; see: kube-lite ctl explain web\n"
    );
    let nowhere = DiscoverView { name: "web".into(), endpoints: Vec::new() };
    assert!(lists::discover(&nowhere, &look()).contains("see: kube-lite ctl explain web"));
    assert_eq!(lists::history(&[], &look()), "no revisions yet\n");
}

fn discover() -> DiscoverView {
    let view = json!({"name": "web", "endpoints": [
        {"instanceId": "web-r1-aaaaa", "nodeId": "node-1", "address": "127.0.0.1:32768",
         "containerPort": 8080, "health": "healthy"},
        {"instanceId": "web-r1-bbbbb", "nodeId": "node-2", "address": "127.0.0.1:32769",
         "containerPort": 8080, "health": "unknown"},
    ]});
    serde_json::from_value(view).expect("endpoints")
}

#[test]
fn where_it_is_reached() {
    assert_eq!(
        lists::discover(&discover(), &look()),
        "\
ADDRESS          PORT  HEALTH   INSTANCE      NODE
127.0.0.1:32768  8080  healthy  web-r1-aaaaa  node-1
127.0.0.1:32769  8080  unknown  web-r1-bbbbb  node-2
"
    );
}

#[test]
fn histories() {
    let revision = |number: u64, why: &str, change: Value| -> RevisionView {
        let view = json!({
            "revision": number, "at": "2025-11-22T13:00:00Z", "by": "ann", "why": why,
            "current": false, "template": {"image": format!("hello:{number}")},
        });
        serde_json::from_value(with(view, change)).expect("a revision")
    };
    let both = json!({"current": true, "head": true});
    let list = [revision(2, "changed image", both), revision(1, "created", json!({}))];
    assert_eq!(
        lists::history(&list, &look()),
        "\
REVISION  NOW            WHEN      BY   IMAGE    WHY
       1  -              13:00:00  ann  hello:1  created
       2  current, head  13:00:00  ann  hello:2  changed image
"
    );
    let outcome = json!({"outcome": "aborted: web-r2-aaaaa exited with code 3"});
    let list = [
        revision(1, "created", json!({"head": true})),
        revision(2, "changed image", outcome),
        revision(3, "changed image, env", json!({"current": true})),
    ];
    assert_eq!(
        lists::history(&list, &look()),
        "\
REVISION  NOW      WHEN      BY   IMAGE    WHY                 OUTCOME
       1  head     13:00:00  ann  hello:1  created             -
       2  -        13:00:00  ann  hello:2  changed image       aborted: web-r2-aaaaa exited with code 3
       3  current  13:00:00  ann  hello:3  changed image, env  -
"
    );
}

#[test]
fn rollouts_in_a_line() {
    let why = "web-r2-aaaaa exited with code 3";
    for (state, change, wanted) in [
        ("rolling", json!({}), "revision 1 to 2: rolling, 1/3 updated"),
        (
            "rolling",
            json!({"waitingFor": "web-r1-bbbbb to be gone"}),
            "revision 1 to 2: rolling, 1/3 updated; waiting for web-r1-bbbbb to be gone",
        ),
        (
            "paused",
            json!({"waitingFor": "paused"}),
            "revision 1 to 2: paused, 1/3 updated; go on: kube-lite ctl rollout resume web",
        ),
        (
            "aborting",
            json!({"why": why, "waitingFor": "room"}),
            "revision 1 to 2 and back to 1: aborting: web-r2-aaaaa exited with code 3; waiting for room",
        ),
        (
            "aborted",
            json!({"why": why, "waitingFor": why}),
            "revision 1 to 2 and back to 1: aborted: web-r2-aaaaa exited with code 3",
        ),
        ("done", json!({"updated": 3}), "revision 1 to 2: done, 3/3 updated"),
    ] {
        let view = workload(rollout(state, change));
        let shown = view.rollout.as_ref().expect("a rollout");
        assert_eq!(rollout::so_far(&view, shown, &look()), wanted);
    }
    let waits = workload(rollout("rolling", json!({"waitingFor": "it for 3 s"})));
    let shown = waits.rollout.as_ref().expect("a rollout");
    let still = Look { ages: false, ..look() };
    assert_eq!(rollout::so_far(&waits, shown, &still), "revision 1 to 2: rolling, 1/3 updated");
}

#[test]
fn rollout_pages() {
    let image = json!({"spec": {"name": "web", "image": "hello:2", "replicas": 3}});
    let page = |state: &str, change: Value| {
        let view = workload(with(rollout(state, change), image.clone()));
        rollout::page(&view, &in_transit(), &look())
    };
    assert_eq!(
        page(
            "rolling",
            json!({"waitingFor": "web-r2-eeeee: its health probe has not succeeded yet"})
        ),
        "\
web  rolling, 1/3 updated
  rollout   revision 1 to 2
  image     hello:2 (revision 2)
  ready     3/3
  waits for web-r2-eeeee: its health probe has not succeeded yet

INSTANCE      REVISION  NODE    STATE    HEALTH    READY  RESTARTS  UP     PORTS
web-r2-ddddd         2  node-1  running  healthy   yes           0  1m05s  -
web-r1-bbbbb         1  node-2  running  healthy   yes           0  1m05s  32769->8080
web-r2-eeeee         2  node-2  running  starting  no            0  1m05s  -
web-r1-ccccc         1  node-3  running  healthy   yes           0  1m05s  32770->8080

Next: kube-lite ctl rollout status web --watch
"
    );
    assert!(
        page("paused", json!({}))
            .ends_with("\n\nNext: kube-lite ctl rollout resume web, or rollout abort web\n")
    );
    assert_eq!(
        page("aborted", json!({"why": "web-r2-eeeee exited with code 3"})),
        "\
web  aborted
  rollout   revision 1 to 2 and back to 1
  image     hello:2 (revision 1)
  ready     3/3
  because   web-r2-eeeee exited with code 3

Next: kube-lite ctl explain web
"
    );
    assert_eq!(
        page("done", json!({"updated": 3})),
        "\
web  done, 3/3 updated
  rollout   revision 1 to 2
  image     hello:2 (revision 2)
  ready     3/3

Next: kube-lite ctl rollout history web, or rollout undo web
"
    );
    assert_eq!(
        rollout::page(&workload(json!({})), &three(), &look()),
        "\
web  no rollout yet, all is of revision 1 (hello:1)

Next: kube-lite ctl rollout start web --image IMAGE
"
    );
}

#[test]
fn status_pages() {
    let change = json!({
        "spec": {"name": "web", "image": "hello:1", "replicas": 3,
                 "ports": [{"containerPort": 8080, "hostPort": 80}, {"containerPort": 53, "protocol": "udp"}],
                 "healthCheck": {"port": 8080, "path": "/healthz"}},
        "running": 1, "ready": 1, "pending": 1, "waiting": 1, "restarts": 4,
        "reasons": backing_off(),
    });
    let page = story::status(&workload(change), &three(), &discover(), &look());
    assert_eq!(
        page,
        "\
web  1/3 ready, waiting
  image     hello:1 (revision 1)
  count     1 running, 1 pending, 1 waiting, 4 restarts
  policy    restart always; probe GET /healthz on port 8080 every 5s; port 8080 on any host port; port 53/udp
  reach it  http://127.0.0.1:32768  (web-r1-aaaaa on node-1)
            http://127.0.0.1:32769  (web-r1-bbbbb on node-2)

INSTANCE      NODE    STATE       HEALTH   READY  RESTARTS  UP     PORTS        WHY
web-r1-aaaaa  node-1  running     healthy  yes           0  1m05s  32768->8080  -
web-r1-bbbbb  node-2  pulling     -        no            0  -      -            pulling hello:1
web-r1-ccccc  node-3  exited (3)  -        no            4  0s     -            exited with code 3 after 0.9 s

Waiting for
  replica 2: BackOff: exited with code 3 after 0.9 s
  web-r1-bbbbb: Pulling: pulling hello:1

The whole story: kube-lite ctl explain web
"
    );
    let nowhere = DiscoverView { name: "web".into(), endpoints: Vec::new() };
    assert_eq!(
        story::status(&workload(json!({})), &[], &nowhere, &look()),
        "\
web  3/3 ready
  image     hello:1 (revision 1)
  count     3 running
  policy    restart always
"
    );
}

fn one_event() -> EventView {
    let view = json!({
        "seq": 17, "at": "2025-11-22T13:59:58Z", "kind": "InstanceOrdered", "workload": "web",
        "node": "node-1", "instance": "web-r1-aaaaa", "message": "ordered on node-1: fewest replicas",
    });
    serde_json::from_value(view).expect("an event")
}

#[test]
fn events() {
    assert_eq!(
        event::event(&one_event(), &look()),
        "13:59:58  InstanceOrdered       web-r1-aaaaa        ordered on node-1: fewest replicas"
    );
    let mut of_node = one_event();
    (of_node.instance, of_node.workload) = (None, None);
    of_node.kind = "NodeDead".to_owned();
    assert_eq!(
        event::event(&of_node, &wide()),
        "    17  13:59:58  NodeDead              node-1              ordered on node-1: fewest replicas"
    );
}

#[test]
fn stories() {
    let view = json!({
        "id": "web",
        "wanted": "3 replicas of hello:1 (revision 1)",
        "is": "1 of 3 ready",
        "replicas": [
            {"replica": 0, "state": "filled", "restarts": 0, "message": "running and ready",
             "instances": ["web-r1-aaaaa"]},
            {"replica": 2, "state": "waiting", "restarts": 4, "message": "exited with code 3",
             "instances": []},
        ],
        "decided": [serde_json::to_value(one_event()).expect("JSON")],
        "waitingFor": backing_off(),
        "hints": ["kube-lite ctl logs web"],
    });
    let mut view: ExplainView = serde_json::from_value(view).expect("a story");
    assert_eq!(
        story::explain(&view, &look()),
        "\
web
  wanted    3 replicas of hello:1 (revision 1)
  is        1 of 3 ready

Replicas
  REPLICA  STATE    RESTARTS  INSTANCES     WHY
        0  filled          0  web-r1-aaaaa  running and ready
        2  waiting         4  -             exited with code 3

Decided
  13:59:58  InstanceOrdered       web-r1-aaaaa        ordered on node-1: fewest replicas

Waiting for
  replica 2: BackOff: exited with code 3 after 0.9 s
  web-r1-bbbbb: Pulling: pulling hello:1

Try
  kube-lite ctl logs web
"
    );
    view.replicas.clear();
    view.decided.clear();
    view.waiting_for.clear();
    view.hints.clear();
    assert_eq!(
        story::explain(&view, &look()),
        "\
web
  wanted    3 replicas of hello:1 (revision 1)
  is        1 of 3 ready

Waiting for
  nothing: everything is as wanted
"
    );
}

// --- waiting ---------------------------------------------------------------

fn seen(change: Value, instances: Vec<ContainerInstance>) -> Seen {
    Seen { view: Some(workload(change)), instances }
}

fn ready(count: u32, change: &Value) -> Vec<ContainerInstance> {
    (0..count).map(|n| instance(&format!("web-r1-{n}"), n, change.clone())).collect()
}

#[test]
fn when_a_goal_is_reached() {
    let none = json!({});
    let mut surplus = ready(3, &none);
    surplus.push(instance("web-r1-old", 3, json!({"stopping": true})));
    let mut lost = ready(3, &none);
    lost.push(instance("web-r1-lost", 3, json!({"lost": true})));
    let mut dead = ready(3, &none);
    dead.push(instance("web-r1-dead", 3, json!({"phase": "exited", "ready": false})));
    let rolling =
        json!({"rollout": {"from": 2, "to": 1, "state": "rolling", "updated": 3, "total": 3}});
    let older =
        json!({"rollout": {"from": 2, "to": 3, "state": "aborted", "updated": 3, "total": 3}});
    let first = Goal::Revision(1);
    for (what, goal, seen, wanted) in [
        ("all ready", &first, seen(json!({}), ready(3, &none)), Verdict::Settled),
        ("one short", &first, seen(json!({}), ready(2, &none)), Verdict::Going),
        ("not ready", &first, seen(json!({}), ready(3, &json!({"ready": false}))), Verdict::Going),
        (
            "other revision",
            &first,
            seen(json!({}), ready(3, &json!({"revision": 2}))),
            Verdict::Going,
        ),
        ("not visible yet", &Goal::Revision(2), seen(json!({}), ready(3, &none)), Verdict::Going),
        ("no workload yet", &first, Seen::default(), Verdict::Going),
        ("one is going", &first, seen(json!({}), surplus), Verdict::Going),
        ("one is lost", &first, seen(json!({}), lost), Verdict::Settled),
        ("a dead one is kept", &first, seen(json!({}), dead), Verdict::Settled),
        ("two done", &first, seen(json!({"done": 2}), ready(1, &none)), Verdict::Settled),
        ("nothing wanted", &first, seen(json!({"desired": 0}), vec![]), Verdict::Settled),
        ("still rolling", &first, seen(rolling, ready(3, &none)), Verdict::Going),
        ("another rollout", &first, seen(older, ready(3, &none)), Verdict::Settled),
        ("scaled", &Goal::Replicas(3), seen(json!({}), ready(3, &none)), Verdict::Settled),
        ("not scaled yet", &Goal::Replicas(5), seen(json!({}), ready(3, &none)), Verdict::Going),
        (
            "being aborted",
            &Goal::Revision(2),
            seen(rollout("aborting", none.clone()), in_transit()),
            Verdict::Going,
        ),
        (
            "not back yet",
            &Goal::Back(1),
            seen(rollout("aborting", none.clone()), in_transit()),
            Verdict::Going,
        ),
        (
            "back",
            &Goal::Back(1),
            seen(rollout("aborted", none.clone()), ready(3, &none)),
            Verdict::Settled,
        ),
        (
            "back to where it never left",
            &first,
            seen(with(rollout("aborted", json!({"to": 1})), none.clone()), ready(3, &none)),
            Verdict::Settled,
        ),
        ("gone", &Goal::Gone, Seen::default(), Verdict::Settled),
        ("some left", &Goal::Gone, Seen { view: None, instances: ready(1, &none) }, Verdict::Going),
        ("not deleted yet", &Goal::Gone, seen(json!({}), vec![]), Verdict::Going),
    ] {
        assert_eq!(progress::judge(goal, &seen, false), wanted, "{what}");
    }
}

#[test]
fn when_somebody_wants_something_else_meanwhile() {
    let other = seen(json!({"revision": 2}), vec![]);
    assert_eq!(
        progress::judge(&Goal::Revision(1), &other, true),
        Verdict::Off(
            "web: something else was asked for meanwhile; now wanted: 3 replicas of revision 2"
                .into()
        )
    );
    assert_eq!(
        progress::judge(&Goal::Replicas(3), &Seen::default(), true),
        Verdict::Off("the workload was deleted meanwhile".into())
    );
    let three = || ready(3, &json!({}));
    let aborted = rollout("aborted", json!({"why": "web-r2-x exited with code 1"}));
    assert_eq!(
        progress::judge(&Goal::Revision(2), &seen(aborted.clone(), three()), true),
        Verdict::Off(
            "web: the rollout to revision 2 was aborted: web-r2-x exited with code 1\n\
             Everything is as before: 3/3 of revision 1. \
             The whole story: kube-lite ctl explain web"
                .into()
        )
    );
    let short = with(aborted, json!({"ready": 2}));
    assert_eq!(
        progress::judge(&Goal::Revision(2), &seen(short, three()), true),
        Verdict::Off(
            "web: the rollout to revision 2 was aborted: web-r2-x exited with code 1\n\
             Revision 1 is wanted again, 2/3 ready. \
             The whole story: kube-lite ctl explain web"
                .into()
        )
    );
}

/// The revision that an aborted rollout goes back to does not run either: there is
/// nothing to wait for. What is left of the new one is no reason to give up.
#[test]
fn a_way_back_in_trouble_is_not_waited_for() {
    let why = |id: &str| {
        json!({"reason": "BackOff", "message": "exited with 3", "instanceId": id,
                               "replica": 0})
    };
    let room = json!({"reason": "NoRoom", "message": "no room", "replica": 0});
    let usual = json!({"reason": "HealthStarting", "message": "x", "instanceId": "web-r1-a"});
    for (reason, stopping, given_up) in [
        (why("web-r1-aaaaa"), 0, true),
        (why("web-r2-aaaaa"), 0, false),
        (room.clone(), 0, true),
        (room, 1, false),
        (usual, 0, false),
    ] {
        let view = with(
            rollout("aborting", json!({"why": "web-r2-zzzzz: exited with code 3"})),
            json!({"ready": 1, "waiting": 1, "stopping": stopping, "reasons": [reason]}),
        );
        for goal in [Goal::Revision(2), Goal::Back(1)] {
            match progress::judge(&goal, &seen(view.clone(), vec![]), true) {
                Verdict::Off(text) => {
                    assert!(given_up, "{view}: {text}");
                    assert!(text.contains("was aborted: web-r2-zzzzz: exited"), "{text}");
                    assert!(text.contains("Revision 1 is wanted again, but"), "{text}");
                    assert!(text.contains("1/3 ready now"), "{text}");
                }
                verdict => assert!(!given_up && verdict == Verdict::Going, "{view}: {verdict:?}"),
            }
        }
    }
    // All is back as it was, and that was not well: what is said is where it stands.
    let back = with(rollout("aborting", json!({})), json!({"ready": 1}));
    for (change, given_up) in [(json!({}), true), (json!({"stopping": true}), false)] {
        let instances = ready(3, &with(json!({"ready": false, "health": "starting"}), change));
        match progress::judge(&Goal::Revision(2), &seen(back.clone(), instances), true) {
            Verdict::Off(text) => assert!(given_up && text.contains("again, 1/3 ready"), "{text}"),
            verdict => assert!(!given_up && verdict == Verdict::Going, "{verdict:?}"),
        }
    }
}

#[test]
fn when_waiting_cannot_help() {
    let image =
        json!({"reason": "ImageNotFound", "message": "there is no image hello:9", "replica": 0});
    let stuck = json!({"running": 0, "ready": 0, "waiting": 3, "reasons": [image]});
    let found = progress::hopeless(&seen(stuck.clone(), vec![]));
    assert_eq!(found.as_deref(), Some("web: ImageNotFound: there is no image hello:9"));
    // Whatever else runs or comes: what has no image never will.
    let pull = json!({"reason": "PullFailed", "message": "no answer\nfrom r", "replica": 0});
    for (change, wanted) in [
        (json!({"running": 1, "ready": 1, "waiting": 2}), Some("ImageNotFound")),
        (json!({"pending": 1, "waiting": 2}), Some("ImageNotFound")),
        (json!({"reasons": [backing_off()[0], image]}), Some("ImageNotFound")),
        (json!({"pending": 1, "reasons": [pull]}), Some("PullFailed: no answer from r")),
        (json!({"reasons": [backing_off()[0]]}), None),
        (json!({"reasons": []}), None),
    ] {
        let seen = seen(with(stuck.clone(), change.clone()), vec![]);
        let found = progress::hopeless(&seen);
        let as_wanted = found.as_deref().map(|found| found.contains(wanted.unwrap_or("nothing")));
        assert_eq!(as_wanted, wanted.map(|_| true), "{change}: {found:?}");
    }
    // A rollout that may neither start one more nor lack one, and so does nothing.
    let port = json!({"reason": "PortTaken", "message": "host port 80 is taken", "replica": 0});
    let still = json!({"reasons": [port], "waiting": 1});
    let mut view = with(rollout("rolling", json!({})), still);
    assert_eq!(progress::hopeless(&seen(view.clone(), vec![])), None, "it may lack one");
    view["spec"] = json!({"name": "web", "image": "hello:1", "replicas": 3,
                          "strategy": {"maxUnavailable": 0}});
    let found = progress::hopeless(&seen(view.clone(), vec![]));
    assert_eq!(found.as_deref(), Some("web: PortTaken: host port 80 is taken"));
    let moving = with(view, json!({"stopping": 1}));
    assert_eq!(progress::hopeless(&seen(moving, vec![])), None, "something moves");
}

#[test]
fn headlines() {
    let mixed = json!({"ready": 1, "running": 1, "waiting": 1});
    for (seen, wanted) in [
        (seen(json!({}), ready(3, &json!({}))), "web: 3/3 ready"),
        (seen(mixed, three()), "web: 1/3 ready, 1 pulling, 1 waiting"),
        (seen(json!({"ready": 0, "running": 0, "done": 3}), vec![]), "web: 3/3 done"),
        (seen(json!({"ready": 2, "done": 1}), ready(2, &json!({}))), "web: 2/3 ready, 1 done"),
        (
            seen(json!({"ready": 0}), ready(2, &json!({"ready": false, "health": "unhealthy"}))),
            "web: 0/3 ready, 2 unhealthy",
        ),
        (
            Seen { view: None, instances: ready(1, &json!({"stopping": true})) },
            "web: 1 instance left, 1 stopping",
        ),
        (Seen::default(), "web: gone"),
        (
            seen(rollout("rolling", json!({})), in_transit()),
            "web: revision 2, 1/3 updated, 3/3 ready, 1 starting",
        ),
        (
            seen(rollout("paused", json!({})), in_transit()),
            "web: revision 2, 1/3 updated, paused, 3/3 ready, 1 starting",
        ),
        (
            seen(rollout("aborting", json!({})), in_transit()),
            "web: revision 2 is taken back, 2 of it left, 3/3 ready, 1 starting",
        ),
        (seen(rollout("done", json!({})), in_transit()), "web: 3/3 ready, 1 starting"),
    ] {
        assert_eq!(progress::headline("web", &seen), wanted);
    }
}

#[test]
fn lines_of_progress() {
    let seen = seen(json!({"reasons": backing_off()}), three());
    let lines = progress::lines(&seen);
    assert_eq!(
        progress::screen(&lines, 10, &look()),
        [
            "web-r1-aaaaa  node-1  ready",
            "web-r1-bbbbb  node-2  pulling  pulling hello:1",
            "replica 2             waiting  BackOff: exited with code 3 after 0.9 s",
        ]
    );
    assert_eq!(
        progress::screen(&lines, 2, &look()),
        ["web-r1-bbbbb  node-2  pulling  pulling hello:1", "… and 2 more, 1 of them ready"]
    );
    assert_eq!(
        progress::news(&lines[..1], &lines),
        [
            "web-r1-bbbbb on node-2: pulling: pulling hello:1",
            "replica 2: waiting: BackOff: exited with code 3 after 0.9 s",
        ]
    );
    assert!(progress::news(&lines, &lines).is_empty());
}

#[test]
fn lines_of_a_rollout() {
    let rolling = progress::lines(&seen(rollout("rolling", json!({})), in_transit()));
    assert_eq!(
        progress::screen(&rolling, 10, &look()),
        [
            "web-r2-ddddd  node-1  revision 2  ready",
            "web-r1-bbbbb  node-2  revision 1  ready",
            "web-r2-eeeee  node-2  revision 2  running, starting",
            "web-r1-ccccc  node-3  revision 1  ready",
        ]
    );
    // What was there before is no news; that it goes is.
    assert_eq!(
        progress::news(&[], &rolling),
        [
            "web-r2-ddddd (revision 2) on node-1: ready",
            "web-r2-eeeee (revision 2) on node-2: running, starting",
        ]
    );
    let mut later = in_transit();
    later[1].stopping = true;
    let later = progress::lines(&seen(rollout("rolling", json!({})), later));
    assert_eq!(progress::news(&rolling, &later), ["web-r1-bbbbb (revision 1) on node-2: stopping"]);
    let why = json!({"why": "web-r2-eeeee exited with code 3"});
    for (state, wanted) in [
        ("paused", "rollout: paused: go on: kube-lite ctl rollout resume web"),
        ("aborting", "rollout: aborting: web-r2-eeeee exited with code 3"),
    ] {
        let now = progress::lines(&seen(rollout(state, why.clone()), in_transit()));
        let news = progress::news(&rolling, &now);
        assert_eq!(news, [wanted]);
    }
}

// --- draining --------------------------------------------------------------

fn node(change: Value) -> NodeView {
    let base = json!({
        "id": "node-2", "address": "127.0.0.1:8081", "status": "alive", "schedulable": false,
        "draining": true, "lastHeartbeatSecondsAgo": 1.0, "instances": 1, "version": "0.1.0",
        "docker": {"state": "ok", "forMs": 5000},
    });
    serde_json::from_value(with(base, change)).expect("a node")
}

fn draining(view: Value, instances: Vec<ContainerInstance>) -> evacuation::Seen {
    evacuation::Seen { node: Some(node(json!({}))), instances, workloads: vec![workload(view)] }
}

#[test]
fn what_leaves_a_node_and_why_it_is_still_there() {
    let here = || instance("web-r1-bbbbb", 1, json!({}));
    let next = |change| instance("web-r1-fffff", 1, with(json!({"nodeId": "node-3"}), change));
    let pulling = json!({"phase": "pulling", "ready": false, "message": "pulling hello:1"});
    let no_room =
        json!({"reasons": [{"reason": "NoRoom", "message": "none of 3 nodes can take it"}]});
    let job = json!({"spec": {"name": "web", "image": "hello:1", "restartPolicy": "never"}});
    for (seen, wanted) in [
        (
            draining(json!({}), vec![instance("web-r1-bbbbb", 1, json!({"stopping": true}))]),
            "stopping",
        ),
        (
            draining(json!({}), vec![here(), next(pulling)]),
            "moving  to web-r1-fffff on node-3, pulling: pulling hello:1",
        ),
        (
            draining(json!({}), vec![here(), next(json!({}))]),
            "moving  to web-r1-fffff on node-3, ready",
        ),
        (draining(no_room.clone(), vec![here()]), "waiting  NoRoom: none of 3 nodes can take it"),
        (
            draining(rollout("paused", json!({})), vec![here(), next(json!({}))]),
            "moving  to web-r1-fffff on node-3, ready",
        ),
        (
            draining(with(rollout("paused", json!({})), no_room.clone()), vec![here()]),
            "waiting  NoRoom: none of 3 nodes can take it",
        ),
        (
            draining(rollout("paused", json!({})), vec![here()]),
            "waiting  the rollout of web is paused: kube-lite ctl rollout resume web",
        ),
        (
            draining(json!({}), vec![here()]),
            "waiting  for its turn; see: kube-lite ctl explain web",
        ),
        (
            draining(job, vec![here()]),
            "staying  its restart policy is never: it is not moved, it runs to its end; \
             or give it up: kube-lite ctl delete web",
        ),
    ] {
        let lines = progress::screen(&evacuation::lines(&seen), 10, &look());
        assert_eq!(lines, [format!("web-r1-bbbbb  node-2  {wanted}")]);
        assert_eq!(evacuation::judge(&seen, true), Verdict::Going);
    }
    let both =
        vec![here(), next(json!({})), instance("web-r1-ggggg", 4, json!({"nodeId": "node-2"}))];
    assert_eq!(
        evacuation::headline(&"node-2".into(), &draining(json!({}), both)),
        "node-2: 2 instances left, 1 moving, 1 waiting"
    );
}

#[test]
fn when_a_node_is_drained() {
    let elsewhere = || vec![instance("web-r1-aaaaa", 0, json!({}))];
    let seen = |change| evacuation::Seen {
        node: Some(node(change)),
        instances: elsewhere(),
        workloads: vec![workload(json!({}))],
    };
    let nowhere = evacuation::Seen { instances: elsewhere(), ..evacuation::Seen::default() };
    let off = |text: &str| Verdict::Off(text.to_owned());
    for (seen, was_wanted, wanted) in [
        (seen(json!({})), false, Verdict::Settled),
        (seen(json!({"draining": false})), false, Verdict::Going),
        (
            seen(json!({"draining": false})),
            true,
            off("node-2: no longer being drained, it was uncordoned meanwhile; \
                 again: kube-lite ctl drain node-2"),
        ),
        (nowhere.clone(), true, off("the node was removed meanwhile")),
        (nowhere, false, off("there is no such node; see: kube-lite ctl nodes")),
    ] {
        assert_eq!(evacuation::judge(&seen, was_wanted), wanted);
    }
    // Nobody has seen it empty: there is something left, or it was never heard.
    let left = || vec![instance("web-r1-bbbbb", 1, json!({"lost": true, "nodeId": "node-2"}))];
    let next = instance("web-r1-ccccc", 1, json!({"nodeId": "node-3"}));
    let dead = json!({"status": "dead"});
    for (instances, wanted) in [
        (left(), "web-r1-bbbbb: not replaced yet: "),
        ([left(), vec![next]].concat(), "web-r1-bbbbb: moved to web-r1-ccccc on node-3, ready"),
    ] {
        let dead = evacuation::Seen { instances, ..seen(dead.clone()) };
        let Verdict::Off(told) = evacuation::judge(&dead, true) else { panic!("{dead:?}") };
        assert!(told.contains(wanted) && told.contains("may run on"), "{told}");
    }
    assert_eq!(evacuation::judge(&seen(dead), true), Verdict::Settled);
    let never = json!({"lastHeartbeatSecondsAgo": null, "status": "unknown"});
    assert_eq!(evacuation::judge(&seen(never), true), Verdict::Going);
    let hung = evacuation::Seen { instances: left(), ..seen(json!({})) };
    assert_eq!(evacuation::judge(&hung, true), Verdict::Going, "its Docker does not answer");
    let name = "node-2".into();
    assert_eq!(
        evacuation::finished(&name, &seen(json!({}))),
        "node-2: drained, nothing runs there and nothing new comes. \
         Back to work: kube-lite ctl uncordon node-2"
    );
    assert!(
        evacuation::finished(&name, &seen(json!({"status": "dead"})))
            .starts_with("node-2: is dead")
    );
}
