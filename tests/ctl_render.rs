//! What the command line shows, letter by letter, and what it thinks of what it
//! sees while it waits.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kube_lite::model::ContainerInstance;
use kube_lite::model::view::{
    DiscoverView, EventView, ExplainView, NodeView, RevisionView, WorkloadView,
};
use kube_lite::roles::ctl::progress::{self, Goal, Seen, Verdict};
use kube_lite::roles::ctl::render::{Look, event, lists, story};
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
        "spec": {"name": "api", "image": "api:2"}, "restarts": 12,
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
    ];
    assert_eq!(
        lists::nodes(&list, &look()),
        "\
NODE    STATUS           INSTANCES  HEARD      DOCKER          ADDRESS         WHY
node-1  alive                    4  1s ago     ok              127.0.0.1:8081  -
node-2  alive, cordoned          4  never      hung for 1m01s  127.0.0.1:8081  no answer to a ping
node-3  dead                     4  1m15s ago  ok              127.0.0.1:8081  not heard for 75 s
"
    );
    assert_eq!(
        lists::nodes(&list[2..], &wide()),
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
    let revision = |number: u64, current: bool, why: &str| -> RevisionView {
        let view = json!({
            "revision": number, "at": "2025-11-22T13:00:00Z", "by": "ann", "why": why,
            "current": current, "template": {"image": format!("hello:{number}")},
        });
        serde_json::from_value(view).expect("a revision")
    };
    assert_eq!(
        lists::history(&[revision(2, true, "image"), revision(1, false, "created")], &look()),
        "\
REVISION  NOW      WHEN      BY   IMAGE    WHY
       1  -        13:00:00  ann  hello:1  created
       2  current  13:00:00  ann  hello:2  image
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
    let aborted = json!({"rollout": {"from": 1, "to": 2, "state": "aborted", "updated": 0, "total": 3,
                                     "waitingFor": "web-r2-x exited with code 1"}});
    assert_eq!(
        progress::judge(&Goal::Revision(2), &seen(aborted, ready(3, &json!({}))), true),
        Verdict::Off(
            "web: the rollout of revision 2 was aborted, revision 1 stays: web-r2-x exited with code 1"
                .into()
        )
    );
}

#[test]
fn when_waiting_cannot_help() {
    let image =
        json!({"reason": "ImageNotFound", "message": "there is no image hello:9", "replica": 0});
    let stuck = json!({"running": 0, "ready": 0, "waiting": 3, "reasons": [image]});
    let found = progress::hopeless(&seen(stuck.clone(), vec![]));
    assert_eq!(found.as_deref(), Some("web: ImageNotFound: there is no image hello:9"));
    for (what, change) in [
        ("one runs", json!({"running": 1, "ready": 1, "waiting": 2})),
        ("one is on its way", json!({"pending": 1, "waiting": 2})),
        ("another reason too", json!({"reasons": [image, backing_off()[0]]})),
        ("nothing known", json!({"reasons": []})),
    ] {
        let seen = seen(with(stuck.clone(), change), vec![]);
        assert_eq!(progress::hopeless(&seen), None, "{what}");
    }
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
