//! The rules stay pure: no clock, no I/O, no chance, no order that differs from
//! run to run. Purity by convention leaks; this is read by machine.

/// What a decision has no business with.
const BANNED: [&str; 12] = [
    "Instant",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::thread",
    "tokio",
    "async ",
    ".await",
    "getrandom",
    "HashMap",
    "HashSet",
    "tracing",
];

macro_rules! pure {
    ($($file:literal),+ $(,)?) => { [$(($file, include_str!(concat!("../", $file)))),+] };
}

#[test]
fn decisions_know_no_clock_no_io_and_no_chance() {
    for (file, text) in pure!(
        "adopt.rs",
        "autonomy.rs",
        "contact.rs",
        "core.rs",
        "images.rs",
        "instance.rs",
        "launch.rs",
        "lifecycle.rs",
        "message.rs",
        "orders.rs",
        "probe.rs",
        "retention.rs",
        "snapshot.rs",
    ) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for banned in BANNED {
                assert!(!code.contains(banned), "{file}:{}: {banned} in {line:?}", number + 1);
            }
        }
    }
}
