//! "Did you mean": the nearest of the words that would have been right.

/// ` (did you mean "x"?)` where one of `known` is near `word`, else nothing.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|found| format!(" (did you mean {found:?}?)")).unwrap_or_default()
}

/// The nearest of `known`, where it is at most a third of its letters away.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_finds_its_word() {
        assert_eq!(did_you_mean("opne", ["read", "open", "close"]), " (did you mean \"open\"?)");
        assert_eq!(nearest("memroy", ["memory", "swap"]), Some("memory"));
    }

    #[test]
    fn a_word_near_nothing_gets_no_suggestion() {
        assert_eq!(did_you_mean("zzzzzzzz", ["read", "open"]), "");
    }
}
