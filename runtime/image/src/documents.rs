//! The documents of an OCI image layout, as far as they are needed, and the choice of this machine's image.
//!
//! OCI image specification 1.1: image-index.md, manifest.md, config.md, image-layout.md.

use remand_model::Digest;
use serde::Deserialize;

use crate::error::{ImageError, Result, shown};

/// How many platforms an error lists.
const PLATFORMS_SHOWN: usize = 6;

/// `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    pub image_layout_version: String,
}

/// `index.json`, or an index in a blob.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub schema_version: u32,
    pub manifests: Vec<Descriptor>,
}

/// One platform's image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// The part of an image's configuration that says what it runs on.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    pub architecture: String,
    pub os: String,
}

/// A blob as another document names it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(default)]
    pub variant: String,
}

/// What a descriptor leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Index,
    Manifest,
    Config,
    Layer,
    Other,
}

impl Descriptor {
    /// By media type, Docker's own ones among them.
    pub(crate) fn role(&self) -> Role {
        let Some(name) = self.media_type.strip_prefix("application/vnd.") else { return Role::Other };
        match name {
            "oci.image.index.v1+json" | "docker.distribution.manifest.list.v2+json" => Role::Index,
            "oci.image.manifest.v1+json" | "docker.distribution.manifest.v2+json" => Role::Manifest,
            "oci.image.config.v1+json" | "docker.container.image.v1+json" => Role::Config,
            "oci.image.layer.v1.tar" | "oci.image.layer.v1.tar+gzip" | "oci.image.layer.v1.tar+zstd" => Role::Layer,
            "oci.image.layer.nondistributable.v1.tar"
            | "oci.image.layer.nondistributable.v1.tar+gzip"
            | "oci.image.layer.nondistributable.v1.tar+zstd" => Role::Layer,
            "docker.image.rootfs.diff.tar" | "docker.image.rootfs.diff.tar.gzip" => Role::Layer,
            _ => Role::Other,
        }
    }

    /// The digest, if it is one of SHA-256 in its only spelling.
    pub(crate) fn sha256(&self) -> Result<Digest> {
        let digest = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.ok_or_else(|| self.fault("is not named by SHA-256"))
    }

    pub(crate) fn fault(&self, why: impl Into<String>) -> ImageError {
        ImageError::Blob { digest: shown(self.digest.as_bytes()), why: why.into() }
    }
}

impl Platform {
    fn fits(&self) -> bool {
        self.os == "linux" && self.architecture == architecture() && ["", "v1", "v8"].contains(&&*self.variant)
    }

    fn shown(&self) -> String {
        shown(format!("{}/{}", self.os, self.architecture).as_bytes())
    }
}

/// This machine's architecture in the words of OCI, which are those of Go.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The one image or index for this machine: one that says so, else one that says nothing.
pub(crate) fn choose(descriptors: &[Descriptor]) -> Result<&Descriptor> {
    let images = || descriptors.iter().filter(|it| matches!(it.role(), Role::Index | Role::Manifest));
    let mut fit: Vec<_> = images().filter(|it| it.platform.as_ref().is_some_and(Platform::fits)).collect();
    if fit.is_empty() {
        fit = images().filter(|it| it.platform.is_none()).collect();
    }
    fit.sort_by(|a, b| a.digest.cmp(&b.digest));
    fit.dedup_by(|a, b| a.digest == b.digest);
    match fit[..] {
        [one] => Ok(one),
        [] => Err(foreign(images().filter_map(|it| it.platform.as_ref()))),
        _ => Err(ImageError::Ambiguous { count: fit.len() }),
    }
}

/// Refuses an image whose configuration says that it is for another machine.
pub(crate) fn check(config: &Config) -> Result<()> {
    let platform =
        Platform { architecture: config.architecture.clone(), os: config.os.clone(), variant: String::new() };
    if platform.fits() { Ok(()) } else { Err(foreign(std::iter::once(&platform))) }
}

fn foreign<'p>(platforms: impl Iterator<Item = &'p Platform>) -> ImageError {
    let found: Vec<_> = platforms.take(PLATFORMS_SHOWN).map(Platform::shown).collect();
    let found = if found.is_empty() { "no machine".to_owned() } else { found.join(", ") };
    ImageError::Platform { wanted: format!("linux/{}", architecture()), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn image(digest: &str, platform: Option<(&str, &str)>) -> Descriptor {
        let platform = platform.map(|(os, architecture)| Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: String::new(),
        });
        Descriptor { media_type: MANIFEST.to_owned(), digest: digest.to_owned(), size: 1, platform }
    }

    #[test]
    fn the_image_that_names_this_machine_is_chosen_before_one_that_names_none() {
        let all = [image("a", None), image("b", Some(("linux", architecture()))), image("c", Some(("linux", "s390x")))];
        assert_eq!(choose(&all).unwrap().digest, "b");
    }

    #[test]
    fn the_same_image_under_two_tags_is_one_image() {
        assert_eq!(choose(&[image("a", None), image("a", None)]).unwrap().digest, "a");
    }

    #[test]
    fn two_images_for_this_machine_are_refused() {
        assert!(matches!(choose(&[image("a", None), image("b", None)]), Err(ImageError::Ambiguous { count: 2 })));
    }

    #[test]
    fn images_for_other_machines_are_refused_by_name() {
        let all = [image("a", Some(("linux", "s390x"))), image("b", Some(("unknown", "unknown")))];
        let text = choose(&all).unwrap_err().to_string();
        assert!(text.contains("linux/s390x") && text.contains(architecture()), "{text}");
    }

    #[test]
    fn digests_other_than_sha256_in_lower_case_are_refused() {
        for text in ["sha512:00", "sha256:../../etc/passwd", &format!("sha256:{}", "A".repeat(64)), ""] {
            assert!(matches!(image(text, None).sha256(), Err(ImageError::Blob { .. })), "{text}");
        }
    }
}
