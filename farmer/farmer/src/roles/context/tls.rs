//! The certificate that the command line names.

use crate::cli::TlsArguments;
use crate::roles::Error;
use cluster::transfer::Tls;

/// Reads certificate, key and authority; none when none is named.
///
/// # Errors
/// When only some of the three are named, or a file cannot be used.
pub fn load_tls(arguments: &TlsArguments) -> Result<Option<Tls>, Error> {
    let TlsArguments { tls_cert, tls_key, tls_ca } = arguments;
    match (tls_cert, tls_key, tls_ca) {
        (None, None, None) => Ok(None),
        (Some(cert), Some(key), Some(ca)) => {
            Tls::from_files(cert, key, ca).map(Some).map_err(|error| Error::Config(error.to_string()))
        }
        _ => {
            let flags = [("--tls-cert", tls_cert), ("--tls-key", tls_key), ("--tls-ca", tls_ca)];
            let missing: Vec<_> =
                flags.iter().filter(|(_, file)| file.is_none()).map(|(flag, _)| *flag).collect();
            let missing = missing.join(" and ");
            Err(Error::Config(format!("--tls-cert, --tls-key and --tls-ca go together: give {missing}, too")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn all_three_or_none() {
        assert!(load_tls(&TlsArguments::default()).unwrap().is_none());
        let file = Some(PathBuf::from("/nowhere/file.pem"));
        for named in 1..7 {
            let pick = |bit: u32| file.clone().filter(|_| named & bit != 0);
            let some = TlsArguments { tls_cert: pick(1), tls_key: pick(2), tls_ca: pick(4) };
            let text = load_tls(&some).unwrap_err().to_string();
            let (_, missing) = text.split_once("give ").unwrap();
            for (bit, flag) in [(1, "--tls-cert"), (2, "--tls-key"), (4, "--tls-ca")] {
                assert_eq!(missing.contains(flag), named & bit == 0, "{text}");
            }
        }
        let all = TlsArguments { tls_cert: file.clone(), tls_key: file.clone(), tls_ca: file };
        let text = load_tls(&all).unwrap_err().to_string();
        assert!(text.contains("--tls-cert /nowhere/file.pem"), "{text}");
    }
}
