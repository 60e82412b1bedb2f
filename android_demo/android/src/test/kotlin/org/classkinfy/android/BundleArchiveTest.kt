package org.classkinfy.android

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipInputStream
import java.util.zip.ZipOutputStream
import org.classkinfy.core.Bundle
import org.classkinfy.core.BundleException
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** On an archive that the toolkit packed. */
class BundleArchiveTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val packed = File(System.getProperty("classkinfy.archive"))
    private val sha256 = Bundle.open(File(System.getProperty("classkinfy.bundle"))).sha256
    private val home by lazy { File(temporary.root, "home") }

    private fun install(archive: () -> InputStream = packed::inputStream): File =
        BundleArchive(home).install(sha256, archive)

    private fun refused(reason: String, archive: () -> InputStream) {
        val error = assertThrows(BundleException::class.java) { install(archive) }
        assertTrue(error.message, reason in error.message!!)
        assertEquals(emptyList<String>(), home.list().orEmpty().toList())
    }

    /** The archive with one entry's name or bytes replaced. */
    private fun altered(name: (String) -> String = { it }, bytes: (String, ByteArray) -> ByteArray = { _, b -> b }) =
        zip(ZipInputStream(packed.inputStream()).use { zip ->
            generateSequence { zip.nextEntry }.map { name(it.name) to bytes(it.name, zip.readBytes()) }.toList()
        })

    private fun zip(entries: List<Pair<String, ByteArray>>): () -> InputStream {
        val data = ByteArrayOutputStream()
        ZipOutputStream(data).use { zip ->
            for ((name, bytes) in entries) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(bytes)
            }
        }
        return { ByteArrayInputStream(data.toByteArray()) }
    }

    @Test
    fun theArchiveBecomesTheBundlesFolder() {
        val folder = install()
        val bundle = Bundle.open(folder)
        assertEquals(sha256, bundle.sha256)
        val path = bundle.manifest.models.first().path
        val wanted = File(System.getProperty("classkinfy.bundle"), path).readBytes()
        assertArrayEquals(wanted, bundle.read(path))
    }

    @Test
    fun itIsUnpackedOnce() {
        val folder = install()
        assertEquals(folder, install { throw IOException("it was opened again") })
    }

    @Test
    fun whatAnEarlierVersionOrAnInterruptionLeftIsRemoved() {
        val old = listOf("0".repeat(64), "$sha256.part").map { File(home, it) }
        old.forEach { File(it, "models").mkdirs() }
        assertEquals(listOf(install().name), home.list()!!.toList())
    }

    @Test
    fun aChangedModelIsRefused() = refused("was changed", altered { name, bytes ->
        if (name.endsWith(".onnx")) bytes.also { it[bytes.size / 2] = (it[bytes.size / 2] + 1).toByte() } else bytes
    })

    @Test
    fun anotherBundleIsRefused() {
        val error = assertThrows(BundleException::class.java) {
            BundleArchive(home).install("0".repeat(64), packed::inputStream)
        }
        assertTrue(error.message, "the app holds bundle $sha256" in error.message!!)
        assertFalse(File(home, "0".repeat(64)).exists())
    }

    @Test
    fun anEntryThatLeavesTheFolderIsRefused() {
        for (name in listOf("../outside", "/outside", "models/../../outside", "models\\outside", "c:outside")) {
            refused("no plain path", zip(listOf(name to ByteArray(1))))
        }
        assertFalse(File(home, "outside").exists() || File(home.parentFile, "outside").exists())
    }

    @Test
    fun whatIsNoArchiveIsRefused() = refused("no archive") { ByteArrayInputStream(ByteArray(100)) }

    @Test
    fun anArchiveThatEndsEarlyIsRefused() {
        val bytes = packed.readBytes()
        val error = assertThrows(BundleException::class.java) {
            install { ByteArrayInputStream(bytes, 0, bytes.size / 2) }
        }
        assertTrue(error.message, "unpacked" in error.message!!)
        assertEquals(emptyList<String>(), home.list().orEmpty().toList())
    }
}
