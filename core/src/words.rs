//! The words by which the user directory finds users.
//!
//! Those of users and those of searches are made here alike, so that the database compares bytes and need not know
//! the letters of any script.

use ruma::UserId;

/// How many words of one text count.
const MAX_WORDS: usize = 16;

/// How many letters of a word count.
const MAX_LETTERS: usize = 64;

/// What finds a user: the id, the words of its localpart, and those of the name.
///
/// They are in lower case; each occurs once.
#[must_use]
pub fn of_user(user_id: &UserId, name: Option<&str>) -> Vec<String> {
    let mut words = vec![user_id.as_str().to_lowercase()];
    words.extend(of_text(user_id.localpart()));
    words.extend(name.into_iter().flat_map(of_text));
    words.sort_unstable();
    words.dedup();
    words
}

/// What a search looks for: each of these must begin a word of the user. The longest is the first.
///
/// What begins with `@` is the beginning of a user id.
#[must_use]
pub fn of_search(term: &str) -> Vec<String> {
    let mut words = Vec::new();
    let ends = |letter: char| letter.is_whitespace() || letter.is_control();
    for part in term.split(ends) {
        if part.starts_with('@') && part.len() > 1 {
            words.push(part.to_lowercase());
        } else {
            words.extend(runs(&part.to_lowercase()).map(shortened));
        }
    }
    words.sort_unstable();
    words.dedup();
    words.sort_by_key(|word| usize::MAX - word.len());
    words.truncate(MAX_WORDS);
    words
}

/// Whether every word of a search begins one of a user's words.
#[must_use]
pub fn matches(search: &[String], words: &[String]) -> bool {
    let begins = |sought: &String| words.iter().any(|word| word.starts_with(sought.as_str()));
    search.iter().all(begins)
}

/// The words of a text. What is written without spaces between words is found by each of its letters.
fn of_text(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let starts = runs(&text).flat_map(|run| {
        let within = run.char_indices().skip(1);
        let within = within.filter(|(_, letter)| needs_no_spaces(*letter));
        std::iter::once(run).chain(within.map(|(at, _)| &run[at..]))
    });
    starts.take(MAX_WORDS).map(shortened).collect()
}

fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(separates).filter(|run| !run.is_empty())
}

fn shortened(word: &str) -> String {
    word.chars().take(MAX_LETTERS).collect()
}

/// Whether words end here. What is no letter but means something, as pictures do, is part of a word.
fn separates(letter: char) -> bool {
    letter.is_whitespace()
        || letter.is_control()
        || (letter.is_ascii() && !letter.is_ascii_alphanumeric())
        // Marks and quotes, but not what joins letters.
        || (matches!(letter, '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{3003}' | '\u{3008}'..='\u{3020}')
            && !matches!(letter, '\u{200c}' | '\u{200d}'))
}

/// Whether the letter is Chinese or Japanese.
fn needs_no_spaces(letter: char) -> bool {
    matches!(letter, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_user_is_found_by_id_localpart_and_name() {
        let words = of_user(
            user_id!("@alice.smith:example.org"),
            Some("Élodie  O'Neill"),
        );

        let expected = [
            "@alice.smith:example.org",
            "alice",
            "neill",
            "o",
            "smith",
            "élodie",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn every_word_of_a_search_must_begin_one_of_the_user() {
        let words = of_user(user_id!("@al_9:example.org"), Some("Alice Cooper"));
        for term in [
            "coop ALI",
            "al",
            "9",
            "@AL_9",
            "@al_9:example.org",
            "cooper, alice",
        ] {
            assert!(matches(&of_search(term), &words), "{term}");
        }
        for term in ["lice", "alice bob", "example", "@l", ":example.org"] {
            assert!(!matches(&of_search(term), &words), "{term}");
        }
    }

    #[test]
    fn the_longest_word_of_a_search_is_the_first() {
        assert_eq!(of_search("b  Alice b al"), ["alice", "al", "b"]);
        assert_eq!(of_search(" @ -"), [""; 0]);
    }

    #[test]
    fn control_characters_end_a_word() {
        assert_eq!(of_search("@al\u{0}bo"), ["@al", "bo"]);
        assert_eq!(of_search("\u{0}"), [""; 0]);
    }

    #[test]
    fn names_without_spaces_and_pictures_are_found() {
        let words = of_user(user_id!("@t:example.org"), Some("山田太郎 🦊"));
        for term in ["山田", "太郎", "郎", "🦊"] {
            assert!(matches(&of_search(term), &words), "{term}");
        }
    }

    #[test]
    fn nobody_has_many_or_long_words() {
        let name = "a b c d e f g h i j k l m n o p q r s t u v w x y z";
        let long = "x".repeat(1_000);
        assert!(of_user(user_id!("@me:example.org"), Some(name)).len() <= MAX_WORDS + 2);
        let words = of_user(user_id!("@me:example.org"), Some(&long));
        assert!(words.iter().all(|word| word.len() <= MAX_LETTERS));
        assert!(matches(&of_search(&long), &words));
    }
}
