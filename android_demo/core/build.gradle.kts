import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        // Newer JDKs' own signatures, such as ByteBuffer.clear's, are not there on older Androids.
        freeCompilerArgs.add("-Xjdk-release=1.8")
    }
}

dependencies {
    // Android has org.json in its framework.
    compileOnly(libs.json)
    testImplementation(libs.json)
    testImplementation(libs.junit)
}

// What tests compare with is the toolkit's own, written by its Python, which must be installed.
val vectors = layout.buildDirectory.dir("vectors")
val writeVectors by tasks.registering(Exec::class) {
    inputs.dir(rootDir.resolve("../classkinfy_export"))
    inputs.files(fileTree(rootDir.resolve("jvm")) { include("*.py") })
    outputs.dir(vectors)
    val folder = vectors.get().asFile // nothing of this script is kept with the configuration
    doFirst { folder.deleteRecursively() }
    commandLine("python3", rootDir.resolve("jvm/vectors.py").path, folder.path)
}

tasks.test {
    dependsOn(writeVectors)
    systemProperty("classkinfy.vectors", vectors.get().asFile.path)
    systemProperty("classkinfy.results", layout.buildDirectory.dir("results").get().asFile.path)
}
