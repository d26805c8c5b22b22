//! The administrator's token: made at the first start, kept in a file that only its owner reads.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::model::Secret;

/// Random bytes of a token.
const RANDOM_BYTES: usize = 32;
/// Shortest token taken from a file.
const LENGTH_MIN: usize = 32;
/// Longest.
const LENGTH_MAX: u64 = 4096;

/// Makes the file if there is none; true if it was made.
///
/// # Errors
/// It cannot be made.
pub fn ensure(path: &Path) -> io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let token = URL_SAFE_NO_PAD.encode(random);
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(true)
}

/// The token of the file, if there is one.
///
/// # Errors
/// What is wrong with it, one sentence.
pub(super) fn read(path: &Path) -> Result<Option<Secret>, String> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{shown} cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others may read {shown} (mode {mode:o}); run chmod 600 on it"));
    }
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LENGTH_MAX).read_to_string(&mut text))
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let token = text.trim();
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.len() < LENGTH_MIN || !plain {
        return Err(format!(
            "{shown} holds no token of {LENGTH_MIN} characters or more; delete it, and the next \
             start makes one"
        ));
    }
    Ok(Some(Secret(token.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let folder = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("writable");
        let path = folder.join("admin.token");
        assert_eq!(read(&path), Ok(None));
        assert!(ensure(&path).expect("made"));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = read(&path).expect("sound").expect("there");
        assert_eq!(token.0.len(), 43);
        assert!(!ensure(&path).expect("there"));
        assert_eq!(read(&path).expect("sound"), Some(token));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(read(&path).expect_err("others may read it").contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::write(&path, "short\n").expect("writable");
        assert!(read(&path).expect_err("short").contains("delete it"));
        assert!(ensure(&folder.join("missing/admin.token")).is_err());
        fs::remove_dir_all(&folder).expect("ours");
    }
}
