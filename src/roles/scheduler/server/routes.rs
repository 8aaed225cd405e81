//! The scheduler's route table.

use hyper::Method;

use crate::http::{self, Access, Route};

/// Names each route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The dashboard; what this is and where to look, for those who read text.
    Page,
    /// A file of the dashboard.
    Asset,
    /// Whether the scheduler itself is well.
    Health,
    /// Figures for Prometheus.
    Metrics,
    /// Figures of an agent, for Prometheus.
    NodeMetrics,
    /// An agent introduces itself.
    Register,
    /// An agent reports.
    Heartbeat,
    /// A machine becomes a node.
    Join,
    /// A node gets a newer certificate.
    Renew,
    /// All tokens.
    Tokens,
    /// Make a token.
    CreateToken,
    /// Take a token back.
    RevokeToken,
    /// A code to sign a browser in with.
    SignInCode,
    /// A browser signs in.
    SignIn,
    /// Who asks.
    Session,
    /// A browser signs out.
    SignOut,
    /// Create or change a workload.
    Deploy,
    /// All workloads.
    Workloads,
    /// One workload.
    Workload,
    /// Its story.
    Explain,
    /// Its revisions.
    History,
    /// Its number of replicas.
    Scale,
    /// Its end.
    Delete,
    /// All nodes.
    Nodes,
    /// No new instances there.
    Cordon,
    /// New instances again.
    Uncordon,
    /// Forget a node.
    RemoveNode,
    /// Move everything off a node.
    Drain,
    /// Roll a workload to another image.
    RolloutStart,
    /// A workload's rollout.
    Rollout,
    /// Freeze a rollout.
    RolloutPause,
    /// Let a rollout go on.
    RolloutResume,
    /// Take a rollout back.
    RolloutAbort,
    /// Roll a workload back.
    RolloutUndo,
    /// Replace its instances by new ones of the same.
    Restart,
    /// All instances.
    Instances,
    /// Where a workload is reached.
    Discover,
    /// What an instance writes.
    Logs,
    /// What the instances of a workload write.
    WorkloadLogs,
    /// What happened and why.
    Events,
    /// All durable state.
    Backup,
    /// Everything, live.
    Stream,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Everything the scheduler can be asked.
pub const ROUTES: &[Route<Call>] = {
    use Access::{Admin, Agent, Joiner, Operator, Public, Renewal, Token, Viewer};
    use Method as M;
    &[
        Route::new(M::GET, "/", Call::Page, Public, "The dashboard; to curl: what this is and where to look"),
        Route::new(M::GET, "/assets/{file}", Call::Asset, Public, "A file of the dashboard"),
        Route::new(M::GET, "/health", Call::Health, Public, "Whether the scheduler itself is well"),
        Route::new(M::GET, "/metrics", Call::Metrics, Viewer, "Figures about cluster and scheduler, for Prometheus"),
        Route::new(
            M::GET,
            "/nodes/{id}/metrics",
            Call::NodeMetrics,
            Viewer,
            "Figures about a node's agent, for Prometheus",
        )
        .streaming(),
        Route::new(M::POST, "/register", Call::Register, Agent, "An agent introduces itself")
            .body(64 * KIB),
        Route::new(
            M::POST,
            "/heartbeat",
            Call::Heartbeat,
            Agent,
            "An agent reports what it has; 422 when it has to register first",
        )
        .body(64 * MIB),
        Route::new(
            M::POST,
            "/join",
            Call::Join,
            Joiner,
            "A machine becomes a node: it gets a certificate of the cluster",
        )
        .body(16 * KIB),
        Route::new(
            M::POST,
            "/renew",
            Call::Renew,
            Renewal,
            "A node gets a newer certificate; also when the one it has is too old",
        )
        .body(16 * KIB),
        Route::new(
            M::GET,
            "/tokens",
            Call::Tokens,
            Admin,
            "All tokens, without their secrets",
        ),
        Route::new(
            M::POST,
            "/tokens",
            Call::CreateToken,
            Admin,
            "Makes a token, for people or for machines to join; its secret is told this once",
        )
        .body(4 * KIB),
        Route::new(M::DELETE, "/tokens/{id}", Call::RevokeToken, Admin, "Takes a token back"),
        Route::new(
            M::POST,
            "/session/code",
            Call::SignInCode,
            Token,
            "Makes a code that signs a browser in, once, with the caller's own role",
        ),
        Route::new(
            M::POST,
            "/session",
            Call::SignIn,
            Public,
            "Signs a browser in: a code becomes a session, in a cookie",
        )
        .body(4 * KIB),
        Route::new(M::GET, "/session", Call::Session, Viewer, "Who asks, with which role"),
        Route::new(M::DELETE, "/session", Call::SignOut, Viewer, "Signs a browser out"),
        Route::new(
            M::POST,
            "/deploy",
            Call::Deploy,
            Operator,
            "Creates or changes a workload; answers once it is durable",
        )
        .body(MIB),
        Route::new(M::GET, "/workloads", Call::Workloads, Viewer, "All workloads"),
        Route::new(M::GET, "/workloads/{id}", Call::Workload, Viewer, "One workload"),
        Route::new(
            M::GET,
            "/workloads/{id}/explain",
            Call::Explain,
            Viewer,
            "Its story: wanted, is, decided, waiting for",
        ),
        Route::new(
            M::GET,
            "/workloads/{id}/history",
            Call::History,
            Viewer,
            "Its revisions: when, by whom, why",
        ),
        Route::new(
            M::PUT,
            "/workloads/{id}/scale",
            Call::Scale,
            Operator,
            "Changes how many replicas are wanted",
        )
        .body(4 * KIB),
        Route::new(
            M::DELETE,
            "/workloads/{id}",
            Call::Delete,
            Operator,
            "Deletes it and its containers; 202 once durable",
        ),
        Route::new(
            M::POST,
            "/workloads/{id}/rollout",
            Call::RolloutStart,
            Operator,
            "Rolls a workload to another image",
        )
        .body(16 * KIB),
        Route::new(
            M::GET,
            "/workloads/{id}/rollout",
            Call::Rollout,
            Viewer,
            "Its rollout, or how the last one ended; null if there was none",
        ),
        Route::new(
            M::POST,
            "/workloads/{id}/rollout/pause",
            Call::RolloutPause,
            Operator,
            "Freezes its rollout; healing goes on",
        ),
        Route::new(
            M::POST,
            "/workloads/{id}/rollout/resume",
            Call::RolloutResume,
            Operator,
            "Lets its rollout go on",
        ),
        Route::new(
            M::POST,
            "/workloads/{id}/rollout/abort",
            Call::RolloutAbort,
            Operator,
            "Takes its rollout back",
        ),
        Route::new(
            M::POST,
            "/workloads/{id}/rollout/undo",
            Call::RolloutUndo,
            Operator,
            "Rolls it back to an earlier revision",
        )
        .body(4 * KIB),
        Route::new(
            M::POST,
            "/workloads/{id}/restart",
            Call::Restart,
            Operator,
            "Rolls it to new instances of the same image, as a new revision",
        ),
        Route::new(M::GET, "/nodes", Call::Nodes, Viewer, "All nodes"),
        Route::new(
            M::POST,
            "/nodes/{id}/drain",
            Call::Drain,
            Admin,
            "Moves everything off a node and keeps new instances off it",
        ),
        Route::new(
            M::POST,
            "/nodes/{id}/cordon",
            Call::Cordon,
            Admin,
            "Keeps new instances off a node",
        ),
        Route::new(
            M::POST,
            "/nodes/{id}/uncordon",
            Call::Uncordon,
            Admin,
            "Lets a node have new instances again",
        ),
        Route::new(M::DELETE, "/nodes/{id}", Call::RemoveNode, Admin, "Forgets a node for good"),
        Route::new(
            M::GET,
            "/instances",
            Call::Instances,
            Viewer,
            "Instances, of one workload or all",
        )
        .query(&["workload"]),
        Route::new(
            M::GET,
            "/discover/{name}",
            Call::Discover,
            Viewer,
            "Where its ready instances are reached",
        ),
        Route::new(
            M::GET,
            "/logs/{id}",
            Call::Logs,
            Viewer,
            "What an instance writes; also takes the beginning of a container's id",
        )
        .query(&["tail", "follow"])
        .streaming(),
        Route::new(
            M::GET,
            "/workloads/{id}/logs",
            Call::WorkloadLogs,
            Viewer,
            "What its instances write, one JSON object per line: whose, which stream, when",
        )
        .query(&["tail", "follow", "instance"])
        .streaming(),
        Route::new(
            M::GET,
            "/events",
            Call::Events,
            Viewer,
            "What happened and why, one JSON object per line; 410 when `since` is too old",
        )
        .query(&["workload", "since", "follow"])
        .streaming(),
        Route::new(
            M::GET,
            "/backup",
            Call::Backup,
            Admin,
            "All durable state at one point, as `kube-lite scheduler --restore` takes it; holds secrets",
        )
        .streaming(),
        Route::new(
            M::GET,
            "/stream",
            Call::Stream,
            Viewer,
            "Everything, then what changes, as server-sent events; goes on after `Last-Event-ID` or `since`",
        )
        .query(&["since"])
        .streaming(),
    ]
};

/// The table as Markdown, for the documentation.
pub fn route_docs() -> String {
    http::route_docs(ROUTES)
}
