package org.classkinfy.core

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class BundleTest {
    @get:Rule
    val temporary = TemporaryFolder()

    @Test
    fun `bundles are opened, each with its signer`() {
        val opened = cases { it.isNull("says") }
        for (case in opened) {
            val bundle = Bundle.open(folder(case), case.getJSONArray("trusted").texts())
            assertEquals(case.toString(), case.getString("signer"), bundle.signer.javaClass.simpleName)
        }
        assertEquals(setOf("Unsigned", "Unknown", "Trusted"), opened.map { it.getString("signer") }.toSet())
    }

    @Test
    fun `a signer is known by its key`() {
        val trusted = cases { it.optString("signer") == "Trusted" }.first().getJSONArray("trusted").texts()
        val folder = Vectors.file("bundles/signed")
        assertEquals(trusted.single(), (Bundle.open(folder, trusted).signer as Signer.Trusted).key)
        assertEquals(trusted.single(), (Bundle.open(folder).signer as Signer.Unknown).key)
    }

    @Test
    fun `what is not signed as asked is refused`() = refused(8) { it.getString("name").startsWith("sign") }

    @Test
    fun `paths out of the folder are refused`() = refused(7) { it.getString("name").startsWith("path_") }

    @Test
    fun `what was damaged, forged or made up is refused`() = refused(50) { true }

    @Test
    fun `a trusted key that is none is told as such`() {
        for (key in listOf("", "AAAA", "no key")) {
            val error = assertThrows(BundleException::class.java) { Bundle.open(Vectors.wholeBundle, listOf(key)) }
            assertTrue(error.message!!, "a trusted key is" in error.message!!)
        }
    }

    @Test
    fun `the id is the manifest's hash`() {
        val bytes = Vectors.bytes("bundles/whole/manifest.json")
        assertEquals(sha256(bytes), Tiny.bundle().sha256)
        // Of FIPS 180-2's example.
        val abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assertEquals(abc, sha256("abc".toByteArray()))
    }

    @Test
    fun `a file that changes after the bundle was opened is not handed out`() {
        val folder = temporary.newFolder()
        Vectors.wholeBundle.copyRecursively(folder, overwrite = true)
        val bundle = Bundle.open(folder)
        val name = "models/prepare_fp32.onnx"
        assertEquals("onnx fp32 prepare", String(bundle.read(name)))
        File(folder, name).writeText("onnx fp32 prepArE")
        assertThrows(BundleException::class.java) { bundle.read(name) }
        File(folder, name).delete()
        assertThrows(BundleException::class.java) { bundle.read(name) }
        assertThrows(BundleException::class.java) { bundle.read("models/not_pinned") }
    }

    @Test
    fun `a link to another bundle's manifest is not followed`() {
        val folder = temporary.newFolder()
        Vectors.wholeBundle.copyRecursively(folder, overwrite = true)
        val outside = File(temporary.root, "manifest").also { File(folder, "manifest.json").renameTo(it) }
        java.nio.file.Files.createSymbolicLink(File(folder, "manifest.json").toPath(), outside.toPath())
        assertThrows(BundleException::class.java) { Bundle.open(folder) }
    }

    @Test
    fun `a manifest cut off at any byte is refused`() {
        val manifest = Vectors.bytes("bundles/whole/manifest.json")
        for (end in 0 until manifest.size - 2 step 37) {
            assertThrows("cut at $end", BundleException::class.java) { Manifest.parse(manifest.copyOf(end)) }
        }
    }

    @Test
    fun `a manifest with any value made another is refused or read, and nothing else`() {
        val text = Vectors.file("bundles/whole/manifest.json").readText()
        val others = listOf("null", "-1", "1e999", "[]", "{}", "\"\"", "true", "9007199254740993", "0.5")
        val values = Regex("(?<=: )(\"[^\"]*\"|[0-9.e-]+)(?=,?\n)").findAll(text).toList()
        assertTrue("${values.size} values", values.size > 200)
        var refused = 0
        for (value in values) {
            for (other in others) {
                try {
                    Manifest.parse(text.replaceRange(value.range, other).toByteArray())
                } catch (_: BundleException) {
                    refused++
                }
            }
        }
        // What a phone does not read (provenance, networks) may be anything.
        assertTrue("$refused of ${values.size * others.size}", refused > values.size * others.size / 4)
    }

    private fun refused(least: Int, which: (JSONObject) -> Boolean) {
        val cases = cases { !it.isNull("says") && which(it) }
        assertTrue("only ${cases.size} cases", cases.size >= least)
        val wrong = cases.mapNotNull { case ->
            val error = try {
                Bundle.open(folder(case), case.getJSONArray("trusted").texts())
                null
            } catch (refusal: BundleException) {
                refusal
            }
            val message = error?.message ?: "it was opened"
            val says = case.getString("says")
            if (error == null || says !in message || ';' !in message) "${case.getString("name")}: $message" else null
        }
        assertEquals("", wrong.joinToString("\n"))
    }

    private fun cases(which: (JSONObject) -> Boolean) = Vectors.entries("bundles").filter(which)

    private fun folder(case: JSONObject) = Vectors.file("bundles/${case.getString("name")}")
}
