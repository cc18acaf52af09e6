//! Paths through a TOML document that remembers where its values were written.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The place of the value at `path`, in which arrays are indexed by number.
pub(super) fn locate(table: &DeTable<'_>, path: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(table.get(*first)?, |value, key| match value.get_ref() {
            DeValue::Table(table) => table.get(*key),
            DeValue::Array(array) => array.get(key.parse::<usize>().ok()?),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        })
        .map(Spanned::span)
}

/// The table at `path`, when there is one.
pub(super) fn table_at<'t, 'i>(
    table: &'t mut DeTable<'i>,
    path: &[&str],
) -> Option<&'t mut DeTable<'i>> {
    path.iter()
        .try_fold(table, |table, key| match table.get_mut(*key)?.get_mut() {
            DeValue::Table(table) => Some(table),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => None,
        })
}

/// The path of the deepest key or value around the beginning of `span`.
pub(super) fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let holds = |range: Range<usize>| range.start <= span.start && span.end <= range.end;
        let name = || vec![key.get_ref().to_string()];
        find_in(value, span)
            .map(|rest| [name(), rest].concat())
            .or_else(|| (holds(value.span()) || holds(key.span())).then(name))
    })
}

/// As [`find`], below one value; an empty path is the value itself.
fn find_in(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    match value.get_ref() {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, item)| {
            let range = item.span();
            let name = || vec![index.to_string()];
            find_in(item, span)
                .map(|rest| [name(), rest].concat())
                .or_else(|| (range.start <= span.start && span.end <= range.end).then(name))
        }),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => None,
    }
}

/// Takes the value at `path` out; of an array, the whole element.
pub(super) fn remove(table: &mut DeTable<'_>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.remove(first.as_str());
        return;
    }
    let Some(value) = table.get_mut(first.as_str()) else {
        return;
    };
    match value.get_mut() {
        DeValue::Table(inner) => remove(inner, rest),
        DeValue::Array(array) => {
            let kept = array
                .iter()
                .enumerate()
                .filter(|(index, _)| index.to_string() != rest[0])
                .map(|(_, item)| item.clone())
                .collect();
            *array = kept;
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            table.remove(first.as_str());
        }
    }
}

/// A key on the way to a value is not a table.
#[derive(Debug)]
pub(super) struct NotATable;

/// Puts `value` at `path`, with the tables on the way.
pub(super) fn insert<'i>(
    table: &mut DeTable<'i>,
    path: &[String],
    value: DeValue<'i>,
    span: &Range<usize>,
) -> Result<(), NotATable> {
    let Some((first, rest)) = path.split_first() else {
        return Err(NotATable);
    };
    let key = || Spanned::new(span.clone(), first.clone().into());
    if rest.is_empty() {
        // The map keeps an old key, and with it the old place.
        table.remove(first.as_str());
        table.insert(key(), Spanned::new(span.clone(), value));
        return Ok(());
    }
    let inner = table
        .entry(key())
        .or_insert_with(|| Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    match inner.get_mut() {
        DeValue::Table(inner) => insert(inner, rest, value, span),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => Err(NotATable),
    }
}

/// `value`, written at `span` with all that is in it.
pub(super) fn respan<'i>(value: DeValue<'i>, span: &Range<usize>) -> DeValue<'i> {
    let at =
        |value: Spanned<DeValue<'i>>| Spanned::new(span.clone(), respan(value.into_inner(), span));
    match value {
        DeValue::Array(array) => DeValue::Array(array.into_iter().map(at).collect()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), at(value)))
                .collect(),
        ),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => value,
    }
}
