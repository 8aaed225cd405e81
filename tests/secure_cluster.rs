//! A cluster with identities, as an operator has it: real processes over TLS, nodes
//! with the simulated runtime, and `ctl` with its credentials file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube_lite_testkit::{LONG, Process, SHORT, until};
use serde_json::{Value, json};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

struct Cluster {
    dir: TempDir,
    port: u16,
    /// What must be in no output.
    secrets: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Cluster {
    fn new() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir: TempDir::new().unwrap(), port, secrets: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn admin(&self) -> PathBuf {
        self.path("scheduler/admin.json")
    }

    /// `scheduler --init`; its standard output and standard error.
    fn init(&self) -> (String, String) {
        let mut command = Command::new(BIN);
        command.args(["scheduler", "--init", "--listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("--data-dir").arg(self.path("scheduler"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (text(&output.stdout), text(&output.stderr))
    }

    async fn scheduler(&self, life: &str) -> Process {
        let mut command = Command::new(BIN);
        command.args(["scheduler", "--listen", &format!("127.0.0.1:{}", self.port)]);
        command.arg("--data-dir").arg(self.path("scheduler")).args(["--certificate-life", life]);
        let process = Process::start("scheduler", &mut command);
        until("the scheduler to listen", SHORT, || async {
            let said = process.output();
            if said.contains("scheduler listens on https://") { Ok(()) } else { Err(said) }
        })
        .await;
        process
    }

    fn agent(&self, node: &str, invitation: Option<&str>) -> Process {
        let mut command = Command::new(BIN);
        command.args(["agent", "--runtime", "simulated", "--listen", "127.0.0.1:0"]);
        command.args(["--sim-pull", "50ms", "--sim-start", "50ms", "--sim-warmup", "50ms"]);
        command.args(["--node-id", node]).arg("--data-dir").arg(self.path(node));
        if let Some(invitation) = invitation {
            command.args(["--join", invitation]);
        }
        command.env_remove("KUBE_LITE_SERVER");
        Process::start(node, &mut command)
    }

    fn ctl_as(&self, credentials: &std::path::Path, args: &[&str]) -> Output {
        let mut command = Command::new(BIN);
        command.arg("ctl").args(args).env("KUBE_LITE_CREDENTIALS", credentials);
        command.env_remove("KUBE_LITE_SERVER").output().unwrap()
    }

    fn ctl(&self, args: &[&str]) -> String {
        let output = self.ctl_as(&self.admin(), args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    /// Waits until these are all nodes that are alive.
    async fn alive(&self, wanted: &[&str]) {
        until("these nodes, and no others, to be alive", LONG, || async {
            let output = self.ctl_as(&self.admin(), &["nodes", "-o", "json"]);
            let views: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let is_alive = |view: &&Value| view["status"] == "alive";
            let alive = views.as_array().into_iter().flatten().filter(is_alive);
            let ids: Vec<&str> = alive.filter_map(|view| view["id"].as_str()).collect();
            if ids == wanted { Ok(()) } else { Err(format!("{ids:?}, {output:?}")) }
        })
        .await;
    }

    /// When a node's certificate was signed, and until when it is good.
    fn certificate(&self, node: &str) -> (u64, u64) {
        let text = std::fs::read_to_string(self.path(node).join("identity.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        let number = |name: &str| value["certificate"][name].as_u64().unwrap_or_default();
        (number("issuedAt"), number("expiresAt"))
    }

    fn keeps_quiet(&self, processes: &[&Process]) {
        for process in processes {
            for secret in &self.secrets {
                assert!(!process.output().contains(secret.as_str()), "{}", process.output());
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Founded, joined, deployed to, restarted; renewed, left alone until all had expired,
/// and taken back.
#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_cluster() {
    let mut cluster = Cluster::new();
    let (line, said) = cluster.init();
    let invitation = line.trim().strip_prefix("kube-lite agent --join ").expect("one line");
    let invitation = invitation.to_owned();
    assert!(invitation.ends_with(&format!("@127.0.0.1:{}", cluster.port)), "{invitation}");
    assert!(said.contains("KUBE_LITE_CREDENTIALS="), "{said}");
    let secret = invitation.split('_').nth(1).unwrap().to_owned();
    let kept: Value = serde_json::from_slice(&std::fs::read(cluster.admin()).unwrap()).unwrap();
    let token = kept["token"].as_str().unwrap().to_owned();
    cluster.secrets = vec![secret, token.trim_start_matches("klu_").to_owned()];
    // A second time, nothing is made and nothing overwritten.
    let files = ["admin.json", "identity/authority.key", "identity/ledger.json"];
    let read = || files.map(|f| std::fs::read(cluster.path("scheduler").join(f)).unwrap());
    let before = read();
    let (line, said) = cluster.init();
    assert_eq!((line.as_str(), read()), ("", before));
    assert!(said.contains("nothing was changed"), "{said}");
    for file in files {
        assert_eq!(mode(&cluster.path("scheduler").join(file)), 0o600, "{file}");
    }

    let mut scheduler = cluster.scheduler("8s").await;
    let mut one = cluster.agent("one", Some(&invitation));
    let mut two = cluster.agent("two", Some(&invitation));
    cluster.alive(&["one", "two"]).await;
    assert_eq!(mode(&cluster.path("one/identity.json")), 0o600);
    let spec = cluster.path("web.json");
    let web = json!({"name": "web", "image": "shop/web:1", "replicas": 4, "minReadySeconds": 0});
    std::fs::write(&spec, web.to_string()).unwrap();
    cluster.ctl(&["deploy", "-f", spec.to_str().unwrap()]);

    // Restarted, without the line: they are who they were.
    cluster.keeps_quiet(&[&scheduler, &one, &two]);
    for process in [&mut scheduler, &mut one, &mut two] {
        process.kill();
    }
    scheduler = cluster.scheduler("8s").await;
    one = cluster.agent("one", None);
    two = cluster.agent("two", None);
    cluster.alive(&["one", "two"]).await;
    cluster.ctl(&["scale", "web", "2"]);

    // Renewed, more than once, by themselves.
    let first = cluster.certificate("one");
    until("two renewals", LONG, || async {
        let is = cluster.certificate("one");
        if is.0 > first.1 { Ok(()) } else { Err(format!("{first:?} {is:?}")) }
    })
    .await;
    cluster.alive(&["one", "two"]).await;

    // All switched off until every certificate is too old: the cluster comes back.
    for process in [&mut scheduler, &mut one, &mut two] {
        process.kill();
    }
    until("all certificates to be too old", SHORT, || async {
        let last = cluster.certificate("one").1.max(cluster.certificate("two").1);
        if now() > last { Ok(()) } else { Err(last) }
    })
    .await;
    let scheduler = cluster.scheduler("8s").await;
    let one = cluster.agent("one", None);
    let mut two = cluster.agent("two", None);
    cluster.alive(&["one", "two"]).await;

    // Removed, and out for good: neither its certificate nor its key comes back.
    two.kill();
    cluster.alive(&["one"]).await;
    cluster.ctl(&["node", "remove", "two"]);
    let two = cluster.agent("two", None);
    until("the removed node to hear it", SHORT, || async {
        let said = two.output();
        if said.contains("was removed from this cluster") { Ok(()) } else { Err(said) }
    })
    .await;
    cluster.alive(&["one"]).await;
    cluster.keeps_quiet(&[&scheduler, &one, &two]);
}

/// Tokens for people: each role may what it may, from a file that only its owner
/// can read, until it is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn people_with_tokens() {
    let cluster = Cluster::new();
    cluster.init();
    let scheduler = cluster.scheduler("1h").await;
    let viewer = cluster.path("viewer.json");
    let file = viewer.to_str().unwrap();
    cluster.ctl(&["token", "create", "--role", "viewer", "--name", "ann", "--write", file]);
    let fails = |args: &[&str], code: i32, words: &str| {
        let output = cluster.ctl_as(&viewer, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    let output = cluster.ctl_as(&viewer, &["nodes"]);
    assert!(output.status.success(), "{output:?}");
    fails(&["scale", "web", "2", "--no-wait"], 1, "takes the role operator");
    fails(&["token", "list"], 1, "takes the role admin");
    // A link for a browser: the code stands where browsers send it to nobody.
    let output = cluster.ctl_as(&viewer, &["dashboard"]);
    let (link, said) = (text(&output.stdout), text(&output.stderr));
    let page = format!("https://127.0.0.1:{}/#/sign-in/", cluster.port);
    let code = link.trim().strip_prefix(&page).expect("a link to the page").to_owned();
    assert!(code.starts_with("klc_") && code.len() == 68, "{link}");
    assert!(said.contains("as ann (viewer), within 5 minutes") && !said.contains(&code), "{said}");
    let told = cluster.ctl_as(&viewer, &["dashboard", "-o", "json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["role"], &told["name"]), (&json!("viewer"), &json!("ann")));
    assert_ne!(told["code"], json!(code), "each time another one");
    let fingerprint = told["certificate"].as_str().unwrap().to_uppercase();
    assert!(said.replace(':', "").contains(&fingerprint), "{said}");
    assert!(!scheduler.output().contains("klc_"), "{}", scheduler.output());
    std::fs::set_permissions(&viewer, std::fs::Permissions::from_mode(0o644)).unwrap();
    fails(&["nodes"], 2, "chmod 600");
    std::fs::set_permissions(&viewer, std::fs::Permissions::from_mode(0o600)).unwrap();

    let tokens: Value =
        serde_json::from_str(&cluster.ctl(&["token", "list", "-o", "json"])).unwrap();
    let of_ann = tokens.as_array().unwrap().iter().find(|token| token["name"] == "ann").unwrap();
    let id = of_ann["id"].as_str().unwrap();
    assert!(cluster.ctl(&["token", "list"]).contains(id));
    cluster.ctl(&["token", "revoke", id]);
    fails(&["nodes"], 1, "was revoked");

    // A line for a new machine, and what is wrong with others.
    let line = cluster.ctl(&["token", "create", "--role", "join", "--expires", "1s"]);
    let invitation = line.trim().strip_prefix("kube-lite agent --join ").unwrap().to_owned();
    until("the line to be too old", SHORT, || async {
        let tokens = cluster.ctl(&["token", "list"]);
        if tokens.contains("expired") { Ok(()) } else { Err(tokens) }
    })
    .await;
    let mut late = cluster.agent("late", Some(&invitation));
    assert!(!late.wait(SHORT).success());
    // Its last words may be read a moment after its end.
    until("what it says", SHORT, || async {
        let said = late.output();
        if said.contains("This token has expired") { Ok(()) } else { Err(said) }
    })
    .await;
    // Nobody answers without a token, nor in plain HTTP.
    let server = format!("http://127.0.0.1:{}", cluster.port);
    let output = cluster.ctl_as(&cluster.admin(), &["--server", &server, "nodes"]);
    assert!(text(&output.stderr).contains("HTTPS"), "{output:?}");
}

/// What could be reached from elsewhere is not started unprotected, and what mends
/// it is said.
#[test]
fn nobody_is_open_by_accident() {
    let temp = TempDir::new().unwrap();
    for (role, words) in [("scheduler", "--init"), ("agent", "--join")] {
        let mut command = Command::new(BIN);
        command.args([role, "--listen", ":0", "--data-dir"]).arg(temp.path().join(role));
        if role == "agent" {
            command.args(["--scheduler", "http://127.0.0.1:1", "--node-id", "n"]);
        }
        let mut process = Process::start(role, &mut command);
        assert_eq!(process.wait(Duration::from_secs(60)).code(), Some(1), "{role}");
        let said = process.output();
        for words in [words, "--insecure", "127.0.0.1"] {
            assert!(said.contains(words), "{role}: {words}: {said}");
        }
    }
}
