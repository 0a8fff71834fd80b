//! Images made of programs this machine has: nothing is pulled from anywhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Engine;

impl Engine {
    /// Makes an image of programs found in the usual folders, with the libraries they need.
    ///
    /// # Panics
    /// When a program is not there, or the engine refuses the image.
    pub fn import(&self, image: &str, programs: &[&str]) {
        let root = self.dir.join(format!("image-{image}"));
        for folder in ["bin", "etc", "tmp", "run", "var/run", "dev", "proc", "sys"] {
            fs::create_dir_all(root.join(folder)).expect("folder");
        }
        // Who runs in there is root, by name where a program insists.
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("passwd");
        fs::write(root.join("etc/group"), "root:x:0:\n").expect("group");
        for program in programs {
            let path = found(program);
            fs::copy(&path, root.join("bin").join(program)).expect("copy");
            for library in libraries(&path) {
                let to = root.join(library.strip_prefix("/").expect("absolute"));
                fs::create_dir_all(to.parent().expect("in a folder")).expect("folder");
                fs::copy(&library, to).expect("copy");
            }
            if *program == "busybox" {
                std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("link");
            }
        }
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().expect("tar");
        assert!(tar.status.success(), "{tar:?}");
        let path = format!("/images/create?fromSrc=-&repo={image}");
        let body = ("application/x-tar", tar.stdout.as_slice());
        self.try_call("POST", &path, Some(body)).expect("an image");
        fs::remove_dir_all(root).expect("remove");
    }
}

fn found(program: &str) -> PathBuf {
    let mut folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"].iter();
    let path = folders.find_map(|folder| {
        let path = Path::new(folder).join(program);
        path.exists().then_some(path)
    });
    path.unwrap_or_else(|| panic!("{program} is not installed; scripts/setup.sh tests installs it"))
}

/// The shared libraries a program needs, none when it is static.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.split_ascii_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}
