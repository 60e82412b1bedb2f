package org.classkinfy.core

import java.io.File
import org.json.JSONArray
import org.json.JSONObject

/** What the toolkit's Python gives on the same bytes, as `android_demo/jvm/vectors.py` wrote it. */
object Vectors {
    private val folder: File by lazy {
        val path = checkNotNull(System.getProperty("classkinfy.vectors")) {
            "-Dclasskinfy.vectors names no folder; write one with: python android_demo/jvm/vectors.py FOLDER"
        }
        File(path)
    }

    val wholeBundle: File get() = file("bundles/whole")

    fun file(name: String) = File(folder, name)

    fun bytes(name: String): ByteArray = file(name).readBytes()

    /** The entries of one kind; a kind without any would be a test that cannot fail. */
    fun entries(kind: String): List<JSONObject> {
        val entries = JSONArray(file("$kind.json").readText()).objects()
        check(entries.isNotEmpty()) { "$kind.json has no entry" }
        return entries
    }
}

fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

fun JSONArray.doubles(): DoubleArray = DoubleArray(length()) { getDouble(it) }

fun JSONArray.ints(): IntArray = IntArray(length()) { getInt(it) }

fun JSONArray.floats(): FloatArray = FloatArray(length()) { getDouble(it).toFloat() }

fun JSONArray.texts(): List<String> = List(length()) { getString(it) }

fun capture(json: JSONObject) = Capture(
    json.getInt("height"),
    json.getInt("width"),
    Layout.valueOf(json.getString("layout").uppercase()),
)
