//! Names of networks, endpoints and interfaces.

use super::Refusal;

/// Longest name of a network or endpoint: that of a DNS label (RFC 1035 section 2.3.4), as names are to be served.
const LONGEST_NAME: usize = 63;

/// Longest interface name: IFNAMSIZ with its final zero.
const LONGEST_INTERFACE: usize = 15;

/// Checks the name of a network, an endpoint or an alias.
///
/// # Errors
/// When it is empty, too long, or has other characters than letters, digits, `_`, `.` and `-`, the first one a letter or digit.
pub fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::invalid(
            format!("{what} name {name:?} {why}"),
            format!("use 1 to {LONGEST_NAME} of the characters a-z A-Z 0-9 _ . -, beginning with a letter or digit"),
        ))
    };
    if name.is_empty() {
        return refuse("is empty".into());
    }
    if name.len() > LONGEST_NAME {
        return refuse(format!("has {} bytes, more than {LONGEST_NAME}", name.len()));
    }
    if let Some(wrong) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
        return refuse(format!("contains {wrong:?}"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("does not begin with a letter or digit".into());
    }
    Ok(())
}

/// Checks the name of an interface inside a container: the kernel's own rules (`dev_valid_name`), and no characters that
/// would make one name look like another.
///
/// # Errors
/// When the kernel would refuse or cut it.
pub fn check_interface_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::invalid(
            format!("interface name {name:?} {why}"),
            format!("use 1 to {LONGEST_INTERFACE} printable characters without `/`, `:` and spaces, such as eth0"),
        ))
    };
    if name.is_empty() {
        return refuse("is empty".into());
    }
    if name.len() > LONGEST_INTERFACE {
        return refuse(format!("has {} bytes, more than {LONGEST_INTERFACE}", name.len()));
    }
    if name == "." || name == ".." || name == "lo" {
        return refuse("is reserved".into());
    }
    // `%` would be taken as a pattern, such as eth%d.
    if let Some(wrong) = name.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '%')) {
        return refuse(format!("contains {wrong:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let longest = "a".repeat(63);
        for good in ["app", "web-1", "0a", "a.b_c", longest.as_str()] {
            check_name("network", good).unwrap_or_else(|refusal| panic!("{good}: {refusal}"));
        }
        let too_long = "a".repeat(64);
        for bad in ["", ".", "..", "a/b", "../x", "a\nb", "a\0", "a b", "-a", "ä", "a\u{7f}", too_long.as_str()] {
            assert!(check_name("network", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "net.1", "abcdefghijklmno"] {
            check_interface_name(good).unwrap_or_else(|refusal| panic!("{good}: {refusal}"));
        }
        for bad in ["", ".", "..", "lo", "a/b", "eth%d", "a b", "a:b", "a\n", "abcdefghijklmnop"] {
            assert!(check_interface_name(bad).is_err(), "{bad:?}");
        }
    }
}
