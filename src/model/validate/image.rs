//! Image references, by the grammar that Docker uses:
//! `[host[:port]/]path[:tag][@digest]`.

/// Why `reference` is none, as a clause.
pub(super) fn check(reference: &str) -> Result<(), &'static str> {
    if reference.is_empty() {
        return Err("it is empty");
    }
    if reference.len() > 1_024 {
        return Err("it is too long");
    }
    if reference.contains("://") {
        return Err("it has a scheme, such as https://");
    }
    let (named, digest) = match reference.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (reference, None),
    };
    // A colon after the last slash starts the tag; one before belongs to a port.
    let slash = named.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match named[slash..].find(':') {
        Some(at) => (&named[..slash + at], Some(&named[slash + at + 1..])),
        None => (named, None),
    };
    check_name(name)?;
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag is not 1 to 128 letters, digits, '_', '.' or '-', beginning with a \
                    letter, digit or '_'");
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("its digest is not sha256: and 64 hexadecimal digits");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > 255 {
        return Err("its name is longer than 255 characters");
    }
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (Some(first), rest),
        _ => (None, name),
    };
    if host.is_some_and(|host| !is_host(host)) {
        return Err("what stands before the first '/' is no host[:port]");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("its path has upper-case letters");
    }
    if !path.split('/').all(is_path_part) {
        return Err(
            "its path is not lower-case letters and digits, separated by '/', '-', '.' or \
                    '_'",
        );
    }
    Ok(())
}

/// Docker's rule for telling `host/app` from `team/app`.
fn looks_like_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        // [2001:db8::1]:5000
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
                return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_part)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_part(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Runs of letters and digits with `.`, `_`, `__` or any number of `-` between.
fn is_path_part(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_are_words =
        text.bytes().next().is_some_and(is_word) && text.bytes().next_back().is_some_and(is_word);
    ends_are_words
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || is_dashes(between))
}

fn is_dashes(text: &str) -> bool {
    text.bytes().all(|b| b == b'-')
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let sha = "a".repeat(64);
        for good in [
            "nginx",
            "nginx:1.27",
            "nginx:1.27-alpine_3.20",
            "library/nginx",
            "a/b/c/d:e",
            "localhost/app",
            "localhost:5000/app:v1",
            "registry.example.com/team/app",
            "registry:5000/app",
            "127.0.0.1:5000/app__x:1",
            "[::1]:5000/app",
            "[2001:db8::1]/app",
            "app.b--c/d_e",
            "Registry/app",
            "kube-lite/hello:dev",
            &format!("nginx@sha256:{sha}"),
            &format!("r:5000/nginx:1@sha256:{sha}"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " ",
            "nginx ",
            "Nginx",
            "nginx:",
            "nginx:.1",
            "nginx:a b",
            ":1.27",
            "/nginx",
            "nginx/",
            "a//b",
            "-nginx",
            "nginx-",
            "a._b",
            "a___b",
            "a..b",
            "https://r/nginx",
            "r:port/nginx",
            "r:99999/nginx",
            "r:/nginx",
            "-r.x/nginx",
            "r..x/nginx",
            "[::1/nginx",
            "[x]/nginx",
            "nginx@sha256:abc",
            "nginx@md5:abc",
            "nginx@",
            "nginx\n",
            "ngïnx",
            "$(reboot)",
            &format!("nginx@sha256:{}", sha.to_uppercase()),
            &format!("nginx:{}", "1".repeat(129)),
            &"a".repeat(256),
            &"a/".repeat(2_000),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
