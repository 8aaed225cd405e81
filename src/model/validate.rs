//! What a spec may say, beyond having the right types. Pure, and the same for
//! everybody who checks: the server before it accepts a spec, the command line
//! before it sends one.

mod image;
mod limits;

use std::collections::BTreeSet;

use super::error::{shown, tame};
use super::ids::dns_label_problem;
use super::{ApiError, Extent, HealthCheckSpec, PortMapping, Timing, WorkloadSpec};

pub use limits::is_file_name;

/// The most replicas a workload may have.
pub const MAX_REPLICAS: u32 = 100_000;
/// The most ports a workload may have.
pub const MAX_PORTS: usize = 100;
/// The most environment variables, and the most entries of `command` and `args`.
pub const MAX_ENTRIES: usize = 1_000;
/// The longest argument or `NAME=value` that Linux hands to a process.
pub const MAX_STRING: usize = 128 * 1024 - 1;
/// The largest template, as JSON: it travels in orders and in a label of the
/// container, which Docker repeats in every listing.
pub const MAX_TEMPLATE: usize = 128 * 1024;
/// Prefix of the variables that every container gets from us.
pub const RESERVED_ENV: &str = "KUBE_LITE_";

const HOUR: u32 = 3_600;

/// Whether `spec` can be taken in; if not, the first field that is wrong, what
/// was given and what is allowed.
pub fn validate(spec: &WorkloadSpec) -> Result<(), ApiError> {
    check_name(spec)?;
    if let Some(replicas) = spec.replicas {
        check_replicas(replicas)?;
    }
    image::check(&spec.image).map_err(|problem| {
        ApiError::invalid_field(
            "image",
            format!(
                "`image` is {}, which is no image reference: {problem}. It must be \
                 [host[:port]/]path[:tag][@digest], as in nginx:1.27 or registry:5000/team/app:v2.",
                shown(&spec.image)
            ),
        )
    })?;
    check_strings("command", &spec.command)?;
    if spec.command.first().is_some_and(String::is_empty) {
        return Err(invalid("command[0]", "empty", "the program to run"));
    }
    check_strings("args", &spec.args)?;
    check_env(spec)?;
    check_ports(&spec.ports)?;
    if let Some(check) = &spec.health_check {
        check_health(check)?;
    }
    limits::check(spec)?;
    if let Some(at) = &spec.restarted_at
        && at.parse::<jiff::Timestamp>().is_err()
    {
        return Err(ApiError::invalid_field(
            "restartedAt",
            format!(
                "restartedAt is {}; it must be a time such as 2026-11-22T13:35:23Z. Leave it out: it \
                 is set by a restart.",
                shown(at)
            ),
        ));
    }
    within("stopGracePeriodSeconds", spec.stop_grace_period_seconds, 0, HOUR)?;
    within("minReadySeconds", spec.min_ready_seconds, 0, HOUR)?;
    check_strategy(spec)?;
    check_size(spec)
}

/// Whether a workload may have this many replicas.
pub fn check_replicas(replicas: u32) -> Result<(), ApiError> {
    within("replicas", replicas, 0, MAX_REPLICAS)
}

/// What a user who asked for host ports should know, with `desired` replicas
/// wanted: one sentence per port that will not be what was asked for.
pub fn port_warnings(spec: &WorkloadSpec, desired: u32) -> Vec<String> {
    if desired < 2 {
        return Vec::new();
    }
    let name = &spec.name;
    let asked = spec.ports.iter().filter(|port| port.host_port != 0);
    asked
        .map(|port| {
            let (host_port, protocol) = (port.host_port, port.protocol.as_str());
            if port.fixed {
                format!(
                    "Host port {host_port}/{protocol} is fixed, so at most one of the {desired} \
                     replicas runs per Docker daemon; the rest wait."
                )
            } else {
                format!(
                    "Host port {host_port}/{protocol} cannot be shared: each of the {desired} \
                     replicas gets a port that Docker picks; find them with `kube-lite ctl \
                     discover {name}`."
                )
            }
        })
        .collect()
}

/// The one form of sentence that all refusals here have.
fn invalid(field: impl Into<String>, given: impl Into<String>, allowed: &str) -> ApiError {
    let (field, given) = (field.into(), given.into());
    let sentence = format!("`{field}` is {given}; it must be {allowed}.");
    ApiError::invalid_field(field, sentence)
}

fn within(field: impl Into<String>, given: u32, least: u32, most: u32) -> Result<(), ApiError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(invalid(field, given.to_string(), &format!("from {least} to {most}")))
}

fn check_name(spec: &WorkloadSpec) -> Result<(), ApiError> {
    let name = spec.name.as_str();
    if let Some(problem) = dns_label_problem(name) {
        return Err(ApiError::invalid_field(
            "name",
            format!("`name` is {}; it {problem}, as in \"web-1\".", shown(name)),
        ));
    }
    match &spec.id {
        Some(id) if *id != spec.name => Err(invalid(
            "id",
            shown(id.as_str()),
            &format!("the same as `name`, which is \"{name}\"; or leave it out"),
        )),
        _ => Ok(()),
    }
}

fn check_strings(field: &str, strings: &[String]) -> Result<(), ApiError> {
    check_count(field, strings.len(), MAX_ENTRIES)?;
    for (index, text) in strings.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if text.len() > MAX_STRING {
            return Err(too_long(field, text.len(), MAX_STRING));
        }
        if text.contains('\0') {
            return Err(invalid(field, shown(text), "text without the character NUL"));
        }
    }
    Ok(())
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    let sentence = format!("`{field}` has {count} entries; it may have at most {most}.");
    Err(ApiError::invalid_field(field, sentence))
}

fn too_long(field: String, length: usize, most: usize) -> ApiError {
    let sentence = format!("`{field}` is {length} bytes long; it may have at most {most}.");
    ApiError::invalid_field(field, sentence)
}

fn check_env(spec: &WorkloadSpec) -> Result<(), ApiError> {
    check_count("env", spec.env.len(), MAX_ENTRIES)?;
    for (name, value) in &spec.env {
        let field = if name.is_empty() { "env".into() } else { format!("env.{}", tame(name)) };
        let refuse = |allowed: &str| {
            let sentence =
                format!("The environment variable's name {} must be {allowed}.", shown(name));
            Err(ApiError::invalid_field(field.clone(), sentence))
        };
        if name.is_empty() {
            return refuse("at least one character long");
        }
        if name.len() + 1 + value.len() > MAX_STRING {
            return Err(too_long(field, name.len() + 1 + value.len(), MAX_STRING));
        }
        if !name.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
            return refuse("printable ASCII without spaces and '='");
        }
        if name.starts_with(RESERVED_ENV) {
            return refuse("another one: those that start with KUBE_LITE_ are set by kube-lite");
        }
        if value.contains('\0') {
            return Err(invalid(field, shown(value), "text without the character NUL"));
        }
    }
    Ok(())
}

fn check_ports(ports: &[PortMapping]) -> Result<(), ApiError> {
    check_count("ports", ports.len(), MAX_PORTS)?;
    let (mut container, mut host) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("ports[{index}].{name}");
        let protocol = port.protocol.as_str();
        if port.container_port == 0 {
            return Err(invalid(field("containerPort"), "0", "from 1 to 65535"));
        }
        if !container.insert((port.container_port, port.protocol)) {
            let given = format!("{}/{protocol} for the second time", port.container_port);
            return Err(invalid(field("containerPort"), given, "mapped only once"));
        }
        if port.host_port != 0 && !host.insert((port.host_port, port.protocol)) {
            let given = format!("{}/{protocol} for the second time", port.host_port);
            return Err(invalid(field("hostPort"), given, "given to one container port only"));
        }
        if port.fixed && port.host_port == 0 {
            let allowed = "false, or `hostPort` must say which port is meant";
            return Err(invalid(field("fixed"), "true while `hostPort` is 0", allowed));
        }
    }
    Ok(())
}

fn check_health(check: &HealthCheckSpec) -> Result<(), ApiError> {
    const LONGEST_PATH: usize = 1_024;
    if check.port == 0 {
        return Err(invalid("healthCheck.port", "0", "a port of the container, from 1 to 65535"));
    }
    let path = &check.path;
    if path.len() > LONGEST_PATH {
        return Err(too_long("healthCheck.path".to_owned(), path.len(), LONGEST_PATH));
    }
    let sendable = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !path.starts_with('/') || !sendable {
        let allowed = "a path that starts with '/', in printable ASCII without spaces and '#' \
                       (write others as %20)";
        return Err(invalid("healthCheck.path", shown(path), allowed));
    }
    within("healthCheck.intervalSeconds", check.interval_seconds, 1, HOUR)?;
    within("healthCheck.timeoutSeconds", check.timeout_seconds, 1, 300)?;
    within("healthCheck.failureThreshold", check.failure_threshold, 1, 100)?;
    within("healthCheck.startupSeconds", check.startup_seconds, 1, HOUR)
}

fn check_strategy(spec: &WorkloadSpec) -> Result<(), ApiError> {
    let strategy = &spec.strategy;
    check_extent("strategy.maxSurge", strategy.max_surge)?;
    if let Some(extent) = strategy.max_unavailable {
        check_extent("strategy.maxUnavailable", extent)?;
        if is_zero(extent) && is_zero(strategy.max_surge) {
            return Err(invalid(
                "strategy.maxUnavailable",
                "0 and so is `maxSurge`",
                "above 0, or `maxSurge` must be: with neither an update could never begin",
            ));
        }
    }
    within("strategy.drainSeconds", strategy.drain_seconds, 0, HOUR)?;
    within("strategy.progressDeadlineSeconds", strategy.progress_deadline_seconds, 1, 24 * HOUR)?;
    let (takes, why) = match (spec.min_ready_seconds, &spec.health_check) {
        (0, None) => (
            Timing::default().probeless_ready_ms / 1000,
            "what an instance without a `healthCheck` has to run",
        ),
        (given, _) => (u64::from(given), "`minReadySeconds`"),
    };
    if u64::from(strategy.progress_deadline_seconds) <= takes {
        return Err(invalid(
            "strategy.progressDeadlineSeconds",
            strategy.progress_deadline_seconds.to_string(),
            &format!("above {takes}, {why}: no instance could become ready in time"),
        ));
    }
    Ok(())
}

fn check_extent(field: &str, extent: Extent) -> Result<(), ApiError> {
    match extent {
        Extent::Count(count) => within(field, count, 0, MAX_REPLICAS),
        Extent::Percent(percent) => within(field, u32::from(percent), 0, 100),
    }
}

fn is_zero(extent: Extent) -> bool {
    matches!(extent, Extent::Count(0) | Extent::Percent(0))
}

fn check_size(spec: &WorkloadSpec) -> Result<(), ApiError> {
    let size = serde_json::to_vec(&spec.template()).map_or(0, |json| json.len());
    if size <= MAX_TEMPLATE {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "The workload takes {size} bytes as JSON; it may take at most {MAX_TEMPLATE}. Put large \
         contents of `env`, `command` and `args` into the image."
    )))
}

#[cfg(test)]
mod tests;
