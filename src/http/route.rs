//! The route table, and matching a request's path against it.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::request::Params;
use crate::model::ApiError;
use crate::model::error::shown;

/// Who may call a route. Nothing else decides it: `identity::access` compares this
/// with who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, without credentials.
    Public,
    /// People who may look.
    Viewer,
    /// People who may change workloads.
    Operator,
    /// People who may change the cluster itself.
    Admin,
    /// People of any role who show their token itself: no browser's session.
    Token,
    /// An agent, for its own node.
    Agent,
    /// The same, also when its certificate has expired.
    Renewal,
    /// Machines that join, with a join token.
    Joiner,
    /// The scheduler.
    Scheduler,
}

impl Access {
    /// Whether the caller is a program of ours, which may be one release newer
    /// or older: what it says is read leniently.
    pub fn is_machine(self) -> bool {
        matches!(self, Access::Agent | Access::Renewal | Access::Joiner | Access::Scheduler)
    }
}

/// How long the steps of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the whole body has arrived.
    pub body_read: Duration,
    /// Until the handler has answered; `None` for streams, which bound their
    /// own first step.
    pub handler: Option<Duration>,
}

/// One row of a server's table: what can be asked, by whom, within which limits.
#[derive(Clone, Debug)]
pub struct Route<C> {
    /// The method; a `GET` also answers `HEAD`.
    pub method: Method,
    /// The path, with parameters in braces: `/workloads/{id}/scale`.
    pub path: &'static str,
    /// The query parameters it knows.
    pub query: &'static [&'static str],
    /// What the handler is told.
    pub call: C,
    /// Who may call it.
    pub access: Access,
    /// The largest body it takes, in bytes; 0: none at all.
    pub body_limit: usize,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What it does, in one line.
    pub summary: &'static str,
}

impl<C: Copy> Route<C> {
    /// A route that takes no body, knows no query and answers within 10 s.
    pub const fn new(
        method: Method,
        path: &'static str,
        call: C,
        access: Access,
        summary: &'static str,
    ) -> Self {
        let timeouts =
            Timeouts { body_read: Duration::from_secs(10), handler: Some(Duration::from_secs(10)) };
        Self { method, path, query: &[], call, access, body_limit: 0, timeouts, summary }
    }

    /// The same, taking a JSON body of at most `limit` bytes.
    pub const fn body(mut self, limit: usize) -> Self {
        self.body_limit = limit;
        self
    }

    /// The same, knowing these query parameters.
    pub const fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    /// The same, with other time-outs.
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The same, answering for as long as the caller listens.
    pub const fn streaming(mut self) -> Self {
        self.timeouts.handler = None;
        self
    }
}

/// A piece of a route's path.
#[derive(Clone, Copy, Debug)]
enum Segment {
    Literal(&'static str),
    Param(&'static str),
    /// `{file}`: a name with capitals and dots, as files of a web page have it.
    File,
}

/// The table, with its paths taken apart once.
#[derive(Debug)]
pub struct Router<C: 'static> {
    routes: Vec<(&'static Route<C>, Vec<Segment>)>,
}

/// What a method and path lead to.
#[derive(Debug)]
pub enum Match<C: 'static> {
    /// To this route.
    Found(&'static Route<C>, Params),
    /// To a path that takes other methods.
    WrongMethod {
        /// As in the `Allow` header.
        allow: String,
    },
    /// To nothing; perhaps one of these was meant.
    Unknown {
        /// As in the table.
        similar: Vec<String>,
    },
    /// To a path whose parameters cannot be ids.
    BadPath(ApiError),
}

impl<C: Copy> Router<C> {
    /// Takes the paths of a table apart.
    pub fn new(table: &'static [Route<C>]) -> Self {
        let routes = table.iter().map(|route| (route, segments_of(route.path))).collect();
        Self { routes }
    }

    /// Finds the route for `method` and `path`, which is still percent-encoded.
    pub fn find(&self, method: &Method, path: &str) -> Match<C> {
        let given: Vec<&str> = split(path);
        let fitting: Vec<_> = self.routes.iter().filter(|(_, want)| fits(want, &given)).collect();
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        if let Some((route, segments)) = fitting.iter().find(|(route, _)| route.method == *wanted) {
            return match params(segments, &given) {
                Ok(params) => Match::Found(route, params),
                Err(error) => Match::BadPath(error),
            };
        }
        if fitting.is_empty() {
            return Match::Unknown { similar: self.similar(&given) };
        }
        let mut allow: Vec<&str> = fitting.iter().map(|(route, _)| route.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.push("OPTIONS");
        Match::WrongMethod { allow: allow.join(", ") }
    }

    /// Routes whose paths look like `given`: most wrong paths are a typing
    /// error or a plural away from a right one.
    fn similar(&self, given: &[&str]) -> Vec<String> {
        // Comparing is quadratic in the length; nothing long is a typing error.
        if given.iter().map(|segment| segment.len()).sum::<usize>() > 200 {
            return Vec::new();
        }
        let wrong = given.join("/");
        let mut scored: Vec<(f64, String)> = Vec::new();
        for (route, segments) in &self.routes {
            // A parameter is as similar as can be to whatever stands there.
            let filled: Vec<&str> = segments
                .iter()
                .enumerate()
                .map(|(index, segment)| match segment {
                    Segment::Literal(text) => *text,
                    Segment::Param(name) => given.get(index).copied().unwrap_or(*name),
                    Segment::File => given.get(index).copied().unwrap_or("file"),
                })
                .collect();
            let score = strsim::normalized_damerau_levenshtein(&wrong, &filled.join("/"));
            if score > 0.6 {
                scored.push((score, format!("{} {}", route.method, route.path)));
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

fn segments_of(path: &'static str) -> Vec<Segment> {
    split(path)
        .into_iter()
        .map(|text| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("file") => Segment::File,
            Some(name) => Segment::Param(name),
            None => Segment::Literal(text),
        })
        .collect()
}

/// The segments of a path; `/` has none. A trailing slash makes an empty last
/// segment, which fits no literal and is no id.
fn split(path: &str) -> Vec<&str> {
    match path.strip_prefix('/') {
        Some("") => Vec::new(),
        Some(rest) => rest.split('/').collect(),
        None => vec![path], // `*`, or nothing at all: no route is like that
    }
}

fn fits(want: &[Segment], given: &[&str]) -> bool {
    want.len() == given.len()
        && want.iter().zip(given).all(|(segment, text)| match segment {
            Segment::Literal(literal) => literal == text,
            Segment::Param(_) | Segment::File => true,
        })
}

fn params(segments: &[Segment], given: &[&str]) -> Result<Params, ApiError> {
    let mut params = Params::default();
    for (segment, text) in segments.iter().zip(given) {
        match segment {
            Segment::Literal(_) => {}
            Segment::Param(name) => params.push(name, id(name, text)?),
            Segment::File => params.push("file", file(text)?),
        }
    }
    Ok(params)
}

/// Longest id in a path: a container's full id has 64 digits, an instance's is
/// a workload's name and a little more.
const MAX_ID: usize = 128;

/// A path parameter. All of ours are names or ids in the alphabet of DNS labels,
/// so whatever else arrives (`..`, `%2f`, control characters) ends here.
fn id(name: &str, encoded: &str) -> Result<String, ApiError> {
    let wrong = |problem: &str| {
        let given = shown(encoded);
        ApiError::invalid_field(
            name,
            format!(
                "{given} in the path is no {name}: it {problem}. Names and ids are 1 to {MAX_ID} \
                 lower-case letters a-z, digits and '-', and start and end with a letter or digit."
            ),
        )
    };
    let Ok(text) = percent_decode_str(encoded).decode_utf8() else {
        return Err(wrong("is not UTF-8"));
    };
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    if text.len() > MAX_ID {
        return Err(wrong("is too long"));
    }
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !text.bytes().all(|b| fine(b) || b == b'-') {
        return Err(wrong("has characters that are not allowed"));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(wrong("starts or ends with '-'"));
    }
    Ok(text.into_owned())
}

/// The name of a file of the web page: nothing that could lead elsewhere.
fn file(text: &str) -> Result<String, ApiError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > MAX_ID || text.starts_with('.') || !text.bytes().all(fine) {
        return Err(ApiError::not_found(format!(
            "There is no file {} here; names of files are letters, digits, '-', '_' and '.'.",
            shown(text)
        )));
    }
    Ok(text.to_owned())
}

/// The table as Markdown, for the documentation.
pub fn route_docs<C>(routes: &[Route<C>]) -> String {
    let mut text = String::from(
        "| route | who | body | answers within | does |\n\
         |---|---|---|---|---|\n",
    );
    for route in routes {
        let query = match route.query {
            [] => String::new(),
            names => format!("?{}=", names.join("=&")),
        };
        let body = match route.body_limit {
            0 => "none".to_owned(),
            limit => format!("JSON, up to {}", size(limit)),
        };
        let within = match route.timeouts.handler {
            Some(limit) => format!("{} s", limit.as_secs_f64()),
            None => "streams".to_owned(),
        };
        let who = format!("{:?}", route.access).to_lowercase();
        let (method, path, summary) = (&route.method, route.path, route.summary);
        let _ =
            writeln!(text, "| `{method} {path}{query}` | {who} | {body} | {within} | {summary} |");
    }
    text
}

/// A number of bytes for people.
pub(super) fn size(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    const KIB: usize = 1 << 10;
    match bytes {
        _ if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Route<u8>] = &[
        Route::new(Method::GET, "/", 0, Access::Public, "Says hello"),
        Route::new(Method::GET, "/workloads", 1, Access::Viewer, "Lists"),
        Route::new(Method::GET, "/workloads/{id}", 2, Access::Viewer, "Shows"),
        Route::new(Method::DELETE, "/workloads/{id}", 3, Access::Operator, "Deletes"),
        Route::new(Method::PUT, "/workloads/{id}/scale", 4, Access::Operator, "Scales").body(1024),
    ];

    fn found(method: Method, path: &str) -> Option<(u8, String)> {
        match Router::new(TABLE).find(&method, path) {
            Match::Found(route, params) => Some((route.call, params.get("id").to_owned())),
            _ => None,
        }
    }

    #[test]
    fn paths_lead_to_routes() {
        assert_eq!(found(Method::GET, "/"), Some((0, String::new())));
        assert_eq!(found(Method::GET, "/workloads"), Some((1, String::new())));
        assert_eq!(found(Method::HEAD, "/workloads/web"), Some((2, "web".into())));
        assert_eq!(found(Method::DELETE, "/workloads/w%65b"), Some((3, "web".into())));
        assert_eq!(found(Method::PUT, "/workloads/web/scale"), Some((4, "web".into())));
        for wrong in ["", "*", "/workloads/", "//", "/workloads/web/", "/Workloads"] {
            assert_eq!(found(Method::GET, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_methods_name_the_right_ones() {
        let Match::WrongMethod { allow } = Router::new(TABLE).find(&Method::POST, "/workloads/web")
        else {
            panic!("should be refused")
        };
        assert_eq!(allow, "GET, DELETE, HEAD, OPTIONS");
    }

    #[test]
    fn unknown_paths_suggest_similar_ones() {
        for (wrong, meant) in [
            ("/workload", "GET /workloads"),
            ("/workload/web", "GET /workloads/{id}"),
            ("/workloads/web/scal", "PUT /workloads/{id}/scale"),
            ("/workloads/web/", "GET /workloads/{id}"),
        ] {
            let Match::Unknown { similar } = Router::new(TABLE).find(&Method::GET, wrong) else {
                panic!("{wrong} should be unknown")
            };
            assert!(similar.iter().any(|name| name == meant), "{wrong}: {similar:?}");
        }
        let long = format!("/{}", "x".repeat(5000));
        assert!(matches!(
            Router::new(TABLE).find(&Method::GET, &long),
            Match::Unknown { similar } if similar.is_empty()
        ));
    }

    #[test]
    fn tricks_in_ids_end_at_the_door() {
        let long = "a".repeat(129);
        for trick in
            ["..", ".", "%2e%2e", "a%2fb", "a%00b", "%0a", "%ff", "A", "a_b", "-a", "a-", &long]
        {
            let path = format!("/workloads/{trick}");
            let Match::BadPath(error) = Router::new(TABLE).find(&Method::GET, &path) else {
                panic!("{trick} should be refused")
            };
            assert_eq!(error.status, 400);
            assert_eq!(error.field.as_deref(), Some("id"));
            assert!(error.error.contains("lower-case letters"), "{}", error.error);
        }
    }

    #[test]
    fn names_of_files_lead_nowhere_else() {
        const FILES: &[Route<u8>] =
            &[Route::new(Method::GET, "/assets/{file}", 0, Access::Public, "A file")];
        let router = Router::new(FILES);
        let Match::Found(_, params) = router.find(&Method::GET, "/assets/index-B_x.js") else {
            panic!("should be found")
        };
        assert_eq!(params.get("file"), "index-B_x.js");
        for trick in ["..", ".hidden", "%2e%2e", "a%2fb", "a%00b", "a b", "", &"a".repeat(129)] {
            let found = router.find(&Method::GET, &format!("/assets/{trick}"));
            assert!(matches!(found, Match::BadPath(error) if error.status == 404), "{trick}");
        }
    }

    #[test]
    fn documentation_has_a_row_per_route() {
        let docs = route_docs(TABLE);
        assert_eq!(docs.lines().count(), TABLE.len() + 2);
        assert!(docs.contains("| `PUT /workloads/{id}/scale` | operator | JSON, up to 1 KiB |"));
    }
}
