package org.classkinfy.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.StandardCharsets
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.json.JSONTokener

/**
 * A value of a JSON document that nobody vouches for: every access says what it wants, and what is
 * something else raises [BundleException] with the place.
 *
 * `org.json` is on every Android and elsewhere a library of the same names. Its own accessors convert
 * what they find, each implementation otherwise, so none of them is used here.
 */
internal class Json private constructor(private val value: Any?, private val where: String) {
    fun member(key: String): Json = Json(table()[key], "$where.${shown(key)}")

    /** The member, null where it is absent or null. */
    fun optional(key: String): Json? =
        table()[key]?.takeUnless { it === JSONObject.NULL }?.let { Json(it, "$where.${shown(key)}") }

    fun members(): Map<String, Json> = table().mapValues { (key, value) -> Json(value, "$where.${shown(key)}") }

    fun items(): List<Json> {
        val array = value as? JSONArray ?: wrong("a list")
        return List(array.length()) { Json(array.opt(it), "$where[$it]") }
    }

    val isNull: Boolean get() = value == null || value === JSONObject.NULL

    fun text(): String = value as? String ?: wrong("a string")

    fun text(pattern: Regex): String = text().also { if (!pattern.matches(it)) refuse("is '${shown(it)}'") }

    /** One of the words, by what it stands for. */
    fun <T> word(meanings: Map<String, T>): T =
        meanings[text()] ?: refuse("is '${shown(text())}', expected one of ${meanings.keys}")

    fun truth(): Boolean = value as? Boolean ?: wrong("true or false")

    fun whole(range: LongRange): Long {
        val number = when (value) {
            is Int -> value.toLong()
            is Long -> value
            else -> wrong("a whole number")
        }
        return if (number in range) number else refuse("is $number, expected $range")
    }

    fun int(range: IntRange): Int = whole(range.first.toLong()..range.last).toInt()

    fun number(): Double {
        val number = (value as? Number ?: wrong("a number")).toDouble()
        return if (number.isNaN() || number.isInfinite()) refuse("is $number") else number
    }

    fun refuse(problem: String): Nothing = throw badBundle("$where $problem")

    private fun table(): Map<String, Any?> {
        val table = value as? JSONObject ?: wrong("an object")
        return table.keys().asSequence().associateWith { table.opt(it) }
    }

    private fun wrong(wanted: String): Nothing =
        refuse(if (value == null) "is missing" else "is ${shown(value.toString())}, expected $wanted")

    companion object {
        /** @throws BundleException not one JSON object in UTF-8 */
        fun parse(data: ByteArray, source: String): Json {
            val text = try {
                StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(data)).toString()
            } catch (error: CharacterCodingException) {
                throw badBundle("$source is not UTF-8", cause = error)
            }
            try {
                val tokens = JSONTokener(text)
                val value = tokens.nextValue() as? JSONObject ?: throw badBundle("$source is not an object")
                if (tokens.nextClean() != '\u0000') throw badBundle("$source goes on after its end")
                return Json(value, source)
            } catch (error: JSONException) {
                throw badBundle("$source is not JSON: ${error.message?.let(::shown)}", cause = error)
            } catch (_: StackOverflowError) {
                // The parser calls itself at each bracket; what it gives is walked without.
                throw badBundle("$source is nested too deep")
            }
        }

        private fun shown(text: String): String =
            text.take(60).map { if (it in ' '..'~') it else '?' }.joinToString("")
    }
}
